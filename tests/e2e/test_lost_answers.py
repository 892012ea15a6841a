"""Creates whose answer is lost, wrong, or a refusal: one machine a session, and none forgotten.

On both marketplaces at the same time.
"""

import pytest

from tests.world import PROVIDERS, World

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("lost-answers")]

CLOCK = 10  # offers are tried for a minute, also on a busy machine
LOST = ("lost_502", "lost_drop", "lost_hang")  # done, but nobody says so
UNDONE = ("http_502", "drop", "hang")
GONE = {  # how each marketplace says so
    "vastai": ("no_such_ask_400", "no_such_ask_404", "no_such_ask_410"),
    "tensordock": ("no_nodes", "hostnode_unavailable", "no_nodes_400"),
}
SAID = {"vastai": ("no_such_ask", "No ask"), "tensordock": ("No available nodes", "unavailable")}
GPUS = {  # of what gives way to the next offer: each on a GPU of its own, or they would meet
    "vastai": {
        "": "RTX 3090", "http_502": "RTX 4090", "drop": "RTX 5090", "hang": "RTX 5080",
        "no_such_ask_400": "RTX 5060 Ti", "no_such_ask_404": "RTX 5070 Ti",
        "no_such_ask_410": "RTX A5000", "orphan": "RTX A6000", "rate_limited": "RTX 3060",
    },
    "tensordock": {
        "": "RTX 4090", "http_502": "RTX A6000", "drop": "A100 PCIe", "hang": "V100 PCIe",
        "no_nodes": "L40", "hostnode_unavailable": "RTX A5000", "no_nodes_400": "L4",
        "orphan": "RTX 5090", "rate_limited": "RTX 3090", "no_public_ip": "RTX A4000",
    },
}  # fmt: skip
Launched = dict[tuple[str, str], list[str]]
both = pytest.mark.parametrize("provider", PROVIDERS)


def order(provider: str) -> list[str]:
    """Five unknown answers in a row open the breaker of creates."""
    gone = GONE[provider]
    return [
        *("lost_hang", "lost_hang", "lost_hang", "hang", gone[0]),
        *("lost_502", "lost_502", "lost_502", gone[1]),
        *("lost_drop", "lost_drop", "lost_drop", gone[2]),
        *("http_502", "drop", "orphan", "rate_limited"),
        *(["no_public_ip"] if provider == "tensordock" else []),
    ]


@pytest.fixture(scope="module")
def launched(world: World) -> Launched:
    """All at once; (provider, fault) -> sessions that meet it on their first create call."""
    found: Launched = {}
    for provider in PROVIDERS:
        gpus = GPUS[provider]
        cheap = iter(world.offers(gpus[""], 9, provider))
        for fault in order(provider):
            which = 0 if fault == "no_public_ip" else -1  # the cheapest, or not quite
            offer = next(cheap) if fault in LOST else world.offers(gpus[fault], 2, provider)[which]
            world.spoil(offer, fault)
            found.setdefault((provider, fault), []).append(world.launch(offer))
    return found


def counted(world: World, pk: str) -> list[dict]:
    """Without those that came too early for the marketplace (429), or too late for their permit."""
    world.wait_state(pk, "running")
    return [tried for tried in world.attempts(pk) if tried["outcome"] not in ("rate", "not_sent")]


@both
@pytest.mark.parametrize("fault", LOST)
def test_a_lost_create_is_found_by_its_label(
    world: World, launched: Launched, fault: str, provider: str
) -> None:
    for pk in launched[provider, fault]:
        [attempt] = counted(world, pk)
        assert (attempt["outcome"], attempt["resolution"]) == ("unknown", "adopted")
        [machine] = [row for row in world.ledger() if row["label"] == attempt["label"]]
        assert (machine["instance_id"], machine["gone_at"]) == (attempt["instance_id"], None)
        assert machine["provider"] == provider


@both
@pytest.mark.parametrize("fault", UNDONE)
def test_a_create_that_never_was_gives_way_to_the_next_offer(
    world: World, launched: Launched, fault: str, provider: str
) -> None:
    [pk] = launched[provider, fault]
    first, *others = counted(world, pk)
    assert (first["outcome"], first["resolution"]) == ("unknown", "not_created")
    assert first["looks"] >= 3
    assert others[-1]["resolution"] == "created"
    assert others[-1]["offer_id"] != first["offer_id"]


@pytest.mark.parametrize(
    ("provider", "fault"), [(name, fault) for name, faults in GONE.items() for fault in faults]
)
def test_a_gone_offer_gives_way_to_the_next(
    world: World, launched: Launched, provider: str, fault: str
) -> None:
    [pk] = launched[provider, fault]
    first, *others = counted(world, pk)
    assert (first["outcome"], first["resolution"]) == ("offer_gone", "not_created")
    assert any(words in first["message"] for words in SAID[provider])
    assert others[-1]["resolution"] == "created"
    assert others[-1]["offer_id"] != first["offer_id"]


def test_without_an_address_of_its_own_the_same_place_is_tried_shared(
    world: World, launched: Launched
) -> None:
    [pk] = launched["tensordock", "no_public_ip"]
    first, second = counted(world, pk)
    assert (first["outcome"], second["outcome"]) == ("offer_gone", "created")
    assert first["offer_id"].endswith(":own")
    assert second["offer_id"] == first["offer_id"].removesuffix(":own") + ":shared"


@both
def test_a_refusal_that_leaves_a_machine_is_cleaned_up_first(
    world: World, launched: Launched, provider: str
) -> None:
    [pk] = launched[provider, "orphan"]
    first, *others = counted(world, pk)
    assert (first["outcome"], first["resolution"]) == ("leftover", "gone")
    assert first["gone_at"] <= others[0]["created_at"]
    assert others[-1]["resolution"] == "created"


@both
def test_too_many_requests_says_nothing_about_the_offer(
    world: World, launched: Launched, provider: str
) -> None:
    [pk] = launched[provider, "rate_limited"]
    world.wait_state(pk, "running")
    *refused, last = world.attempts(pk)
    assert "rate" in {attempt["outcome"] for attempt in refused} <= {"rate", "not_sent"}
    assert last["outcome"] == "created"
    assert {attempt["offer_id"] for attempt in refused} == {last["offer_id"]}


def test_stale_stock_gives_way_to_the_next_offer(world: World, launched: Launched) -> None:
    """As TensorDock is by itself, without a fault: half of what it lists is not there.

    The dice of the simulated stock are thrown once; a session that finds nothing says so.
    """
    world.wait_states([pk for pks in launched.values() for pk in pks], "running", "ended")
    world.tell("/market", true_stock=False)
    pks = [world.launch(offer) for offer in world.offers("RTX 3090", 3, "tensordock")]
    world.wait_states(pks, "running", "ended")
    world.tell("/market", true_stock=True)
    tries = [attempt for pk in pks for attempt in world.attempts(pk)]
    stale = [attempt for attempt in tries if attempt["outcome"] == "offer_gone"]
    assert stale
    assert {attempt["resolution"] for attempt in stale} == {"not_created"}
    assert "running" in {world.session(pk)["state"] for pk in pks}
    for pk in pks:
        row, last = world.session(pk), world.attempts(pk)[-1]
        assert (row["state"] == "running") == (last["outcome"] == "created"), world.story(pk)


def test_all_of_them_end_and_none_is_forgotten(world: World, launched: Launched) -> None:
    world.stop_all()
    assert world.violations() == []
