"""Whose machines are these? A second broker, a restored backup, another DEPLOYMENT_ID (I2, I14).

Whoever is in doubt says so and touches nothing. The whole set, with times: tests/prove/drills.py.
"""

import re
from collections.abc import Iterator

import pytest

from tests.processes import Template, until
from tests.prove.stage import Neighbour, Stage
from tests.world import PROVIDERS

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("doubt")]

CALM = 60  # simulated seconds
GPU = "RTX 4090"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("doubt") / "w", template) as stage:
        try:
            stage.start()
            stage.rent(stage.offers(GPU, 1, provider)[0] for provider in PROVIDERS)
        except AssertionError as error:
            error.add_note(stage.tails())
            raise
        yield stage


@pytest.fixture
def untouched(world: Stage) -> Iterator[None]:
    """No session changes its state meanwhile, and nothing mutating is sent."""
    states, last = world.states(), world.last_request()
    yield
    assert world.states() == states
    assert world.mutations(last) == []


def test_a_second_broker_with_the_same_keys_is_a_stranger(world: Stage, untouched: None) -> None:
    with Neighbour(world) as other:
        other.start_working()
        for provider in PROVIDERS:
            until("it sees the other", lambda name=provider: other.alerted(f"twin:{name}"))
        other.let_pass(CALM)
        assert other.rows("SELECT * FROM gpu_sessions_sighting") == []


def test_a_restored_backup_destroys_nothing(world: Stage) -> None:
    """Not even what it has never heard of; nobody is let down once the truth is back."""
    world.back_up("backup")
    later = world.launch(world.offers(GPU, 1)[0])
    world.wait_state(later, "booting", "verifying", "running")
    world.wait_anchored()
    last = world.last_request()

    world.exchange("backup", keep="truth")
    for key in ("identity", "audit"):
        until(f"the alert {key}", lambda key=key: world.alerted(key))
    page = world.http.get(f"{world.base}/attention/", timeout=30).text
    assert "Read-only" in page and "has lost event" in page
    world.let_pass(CALM)
    assert world.mutations(last) == []

    world.exchange("truth")
    world.wait_state(later, "running")
    until("all is well", lambda: not world.alerted("identity") and not world.alerted("audit"))


def test_another_deployment_id_does_nothing_until_it_is_put_right(
    world: Stage, untouched: None
) -> None:
    world.restart(DEPLOYMENT_ID="another000")
    until("the alert", lambda: world.alerted("identity"))
    assert "another000" in world.http.get(f"{world.base}/sessions/", timeout=30).text
    world.let_pass(CALM)
    world.restart(DEPLOYMENT_ID="")
    until("all is well", lambda: not world.alerted("identity"))


def test_all_of_them_end_and_none_is_forgotten(world: Stage) -> None:
    world.stop_all()
    assert world.violations() == []


def test_what_a_restored_backup_has_lost_is_adopted_and_ends_like_any_other(world: Stage) -> None:
    """Nothing is touched before an operator says that this copy is the true one (I2, I4)."""
    world.populate()  # others' machines, which must be there in the end
    known = world.labels()
    world.back_up("before")
    world.rent(world.offers(GPU, 1))
    [pk] = [pk for pk, state in world.states().items() if state == "running"]
    lost, label = world.session(pk), world.attempts(pk)[-1]["label"]
    others = world.labels() - known - {label}  # of machines that did not come up, if any
    world.wait_anchored()
    last = world.last_request()

    world.environment["GPUBROKER_TIME_SCALE"] = "5"  # a login may take long on a busy machine
    world.exchange("before")
    until("the alert", lambda: world.alerted("identity") and world.alerted("audit"))
    world.let_pass(CALM)
    assert pk not in world.states() and world.rows("SELECT * FROM gpu_sessions_sighting") == []
    assert world.mutations(last) == []

    assert world.django("adopt", "adopt_identity", "--yes").process.wait(120) == 0
    orphan = until("it needs attention", lambda: adoptable(world, label))
    answer = world.post(orphan["way"], confirm=orphan["id"], reason="a demo runs on it")
    assert answer.status_code == 302, answer.text[-2000:]
    [again] = world.sessions_of("vastai")
    assert again != pk and world.session(again)["code"] == lost["code"]
    running = world.wait_state(again, "running")
    assert running["host_key"] == lost["host_key"], "the same machine, by its own key"
    assert {r["operation"] for r in world.mutations(last)} == {"attach"}

    world.stop_all()
    [machine] = [row for row in world.ledger() if row["label"] == label]
    assert machine["gone_at"] and "Confirmed gone" in world.page(again)
    # Of all that is ever checked, one thing is wrong: the intent is what the backup has lost.
    wrong = [text for text in world.violations() if not any(other in text for other in others)]
    assert wrong == [
        f"creates_intended: create of {label} left without an intent",
        f"spending_covered: instance {machine['instance_id']} ({label}) was billed before any"
        " intent",
    ]


def adoptable(world: Stage, label: str) -> dict[str, str] | None:
    """The id and the way to adopt it, as the page "Needs attention" offers them."""
    page = world.http.get(f"{world.base}/attention/", timeout=30).text
    way = re.search(r'action="(/attention/orphans/\d+/adopt/)"', page)
    machine = re.search(r'name="confirm" value="(\d+)"', page)
    return {"way": way[1], "id": machine[1]} if label in page and way and machine else None
