"""From the offer to the session: terms, refusals, keys, and only one session a click."""

import re
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.utils import timezone

from providers import registry
from providers.base import CONTAINER_IMAGE
from sessions.forms import suggested_ceiling
from sessions.models import AuditEvent, Session, SSHKey
from tests.factories import PUBLIC_KEY, make_health, make_key, make_offer, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def offer(installed):
    return make_offer(offer_id="77", base_price_per_hour=Decimal("0.40"))


@pytest.fixture
def terms(person) -> dict[str, object]:
    return {
        "idempotency_key": str(uuid4()),
        "image": "nvidia/cuda:12.4.1-devel-ubuntu22.04",
        "disk_gb": 60,
        "hours": 4,
        "max_price_per_hour": "0.45",
        "fallback": "gpu",
        "startup_script": "",
        "public_keys": [make_key(person).pk],
        "new_key": "",
    }


def test_the_page_starts_with_the_filters_and_a_ceiling_with_headroom(page, person, offer) -> None:
    make_key(person, name="laptop")
    text = page.get("/launch/vastai/77/?disk=60&verified=1").content.decode()
    assert 'name="disk_gb" value="60"' in text
    assert f'value="{suggested_ceiling(Decimal("0.412"))}"' in text
    assert "$0.412" in text and "laptop" in text
    assert "SHA256" not in text
    assert not Session.objects.exists()


def test_a_launch_makes_one_session_with_all_terms(page, person, offer, terms) -> None:
    answer = page.post("/launch/vastai/77/", terms | {"startup_script": "#!/bin/sh\r\necho hi\r\n"})
    session = Session.objects.get()
    assert answer["Location"] == f"/sessions/{session.pk}/"
    assert session.owner == person and session.offer_id == "77"
    assert (session.disk_gb, session.fallback, session.requirements) == (60, "gpu", {})
    assert session.max_price_per_hour == Decimal("0.45")
    assert session.startup_script == "#!/bin/sh\necho hi\n"
    assert session.public_keys == [PUBLIC_KEY]
    assert session.expires_at - session.created_at == timedelta(hours=4)
    event = AuditEvent.objects.get(action="session.launch")
    assert event.request_id == answer["X-Request-ID"]


def test_a_double_click_is_one_session_even_when_the_offer_is_gone_by_then(
    page, offer, terms
) -> None:
    first = page.post("/launch/vastai/77/", terms)
    second = page.post("/launch/vastai/77/", terms)
    offer.delete()
    third = page.post("/launch/vastai/77/", terms)
    assert first["Location"] == second["Location"] == third["Location"]
    assert Session.objects.count() == 1


def test_wishes_for_the_next_offer_become_requirements(page, offer, terms) -> None:
    page.post(
        "/launch/vastai/77/",
        terms | {"verified_only": "on", "same_country": "on", "min_reliability": "99.9"},
    )
    assert Session.objects.get().requirements == {
        "verified_only": True,
        "countries": ["ES"],
        "min_reliability": 0.999,  # and not a little more, which no such offer has
    }


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image", "rm -rf /", "not an image name"),
        ("image", "", "required"),
        ("disk_gb", "7", "8 to 500 GB."),
        ("disk_gb", "501", "8 to 500 GB."),
        ("hours", "13", "1 to 12 hours."),
        ("hours", "0", "1 to 12 hours."),
        ("max_price_per_hour", "0.411", "costs $0.4120/h"),
        ("max_price_per_hour", "NaN", "Enter a number"),
        ("fallback", "any", "not one of the available choices"),
        ("startup_script", "x" * 20000, "at most"),
        ("public_keys", [], "Choose a key"),
        ("public_keys", ["999999"], "not one of the available choices"),
        ("public_keys", ["9" * 40], "not one of the available choices"),
        ("new_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "rivate"),
    ],
)
def test_bad_terms_are_refused_at_the_field(page, offer, terms, field, value, words) -> None:
    answer = page.post("/launch/vastai/77/", terms | {field: value})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Session.objects.exists() and not AuditEvent.objects.filter(action="session.launch")


def test_the_price_that_is_told_is_enough_to_launch(page, offer, terms) -> None:
    type(offer).objects.update(base_price_per_hour=Decimal("0.40001"))
    text = page.post("/launch/vastai/77/", terms | {"max_price_per_hour": "0.412"}).content.decode()
    told = re.search(r"The offer costs \$([0-9.]+)/h by now", text)[1]
    assert page.post("/launch/vastai/77/", terms | {"max_price_per_hour": told}).status_code == 302


def test_a_private_key_is_not_shown_again(page, offer, terms) -> None:
    pasted = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LWNhbmFyeQ\n"
    text = page.post("/launch/vastai/77/", terms | {"new_key": pasted}).content.decode()
    assert "c2VjcmV0LWNhbmFyeQ" not in text
    text = page.post("/keys/", {"public_key": pasted}).content.decode()
    assert "c2VjcmV0LWNhbmFyeQ" not in text


def test_a_pasted_key_is_registered_with_the_launch_and_not_with_a_refusal(
    page, person, offer, terms
) -> None:
    pasted = {"public_keys": [], "new_key": f"{PUBLIC_KEY} me@laptop\n"}
    page.post("/launch/vastai/77/", terms | pasted | {"max_price_per_hour": "0.1"})
    assert not SSHKey.objects.filter(name="me@laptop").exists()
    page.post("/launch/vastai/77/", terms | pasted)
    assert Session.objects.get().public_keys == [PUBLIC_KEY]
    assert SSHKey.objects.get(owner=person, name="me@laptop").public_key == PUBLIC_KEY


def test_a_key_can_be_generated_and_never_reaches_the_page(page, offer, terms) -> None:
    answer = page.post("/launch/vastai/77/", terms | {"public_keys": [], "generate_key": "on"})
    session = Session.objects.get()
    assert session.generated_key and len(session.public_keys) == 1
    assert b"PRIVATE" not in answer.content and "PRIVATE" not in session.generated_key


def test_keys_of_others_cannot_be_used(page, offer, terms) -> None:
    foreign = make_key(make_user())
    answer = page.post("/launch/vastai/77/", terms | {"public_keys": [foreign.pk]})
    assert answer.status_code == 422 and not Session.objects.exists()


@pytest.mark.parametrize("gone", ["unlisted", "evicted", "unknown", "foreign", "nul"])
def test_an_offer_that_is_gone_says_so_and_leads_back(page, offer, terms, gone: str) -> None:
    path = "/launch/vastai/77/?gpu=L4"
    if gone == "unlisted":
        type(offer).objects.update(listed=False)
    elif gone == "evicted":
        type(offer).objects.update(evicted_until=timezone.now() + timedelta(minutes=5))
    else:
        path = {
            "unknown": "/launch/vastai/none/?gpu=L4",
            "foreign": "/launch/acme/77/?gpu=L4",
            "nul": "/launch/vastai/7%007/?gpu=L4",
        }[gone]
    typed = terms | {"startup_script": "echo kept"}
    for answer in (page.get(path), page.post(path, typed)):
        text = answer.content.decode()
        assert answer.status_code == 410 and 'href="/?gpu=L4"' in text
    assert "echo kept" in text  # nobody types that twice
    assert page.get(path.replace("/launch/", "/estimate/")).status_code == 410
    assert not Session.objects.exists()


def test_refusals_without_a_field_stand_above_the_form(page, offer, terms) -> None:
    make_health(account_id="")
    answer = page.post("/launch/vastai/77/", terms)
    assert answer.status_code == 422
    assert "has not confirmed our account" in answer.content.decode()


def test_the_estimate_follows_the_numbers_and_survives_nonsense(page, offer) -> None:
    text = page.get("/estimate/vastai/77/?disk_gb=100&hours=3&max_price_per_hour=0.50")
    for words in ("$0.420", "$1.26", "$1.50", "$25.00"):
        assert words in text.content.decode()
    low = page.get("/estimate/vastai/77/?max_price_per_hour=0.1").content.decode()
    assert "below the price of this offer" in low
    usual = page.get("/estimate/vastai/77/").content.decode()
    assert "in 4 h" in usual
    for value in ("", "-5", "NaN", "1e400", "1e-99999", "0.5", "<b>", "9" * 400):
        query = {"disk_gb": value, "hours": value}
        shown = page.get("/estimate/vastai/77/", query).content.decode()
        assert "in 4 h" in shown and "40 GB disk" in shown
        query = {"max_price_per_hour": value, "min_reliability": value}
        assert page.get("/estimate/vastai/77/", query).status_code == 200


@pytest.mark.parametrize(
    ("image", "fine"),
    [
        ("ubuntu", True),
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", True),
        ("registry.example.org:5000/team/image_x:v1", True),
        ("ghcr.io/a/b@sha256:" + "a" * 64, True),
        ("", False),
        ("Ubuntu", False),
        ("a b", False),
        ("a;reboot", False),
        ("$(id)", False),
        ("../etc", False),
        ("image:", False),
        ("image\n", False),
        ("-v", False),
    ],
)
def test_image_names(image: str, fine: bool) -> None:
    assert bool(re.fullmatch(CONTAINER_IMAGE, image, re.ASCII)) is fine


def test_too_many_launches_are_refused_with_the_time_and_the_form(
    page, offer, terms, settings
) -> None:
    settings.LAUNCHES_PER_MINUTE = 1
    assert page.post("/launch/vastai/77/", terms).status_code == 302
    again = terms | {"idempotency_key": str(uuid4()), "startup_script": "echo kept"}
    answer = page.post("/launch/vastai/77/", again)
    text = answer.content.decode()
    assert answer.status_code == 429 and 50 < int(answer["Retry-After"]) <= 61
    assert "launched 1 session" in text and "The next is possible in" in text
    assert "echo kept" in text and again["idempotency_key"] in text
    assert page.post("/launch/vastai/77/", terms).status_code == 302  # the same click, once more
    assert Session.objects.count() == 1
    assert AuditEvent.objects.filter(action="session.launch").count() == 1


def test_the_page_and_the_estimate_list_what_would_be_tried(page, offer) -> None:
    near = make_offer(base_price_per_hour=Decimal("0.41"), place="Norway", country="NO")
    make_offer(base_price_per_hour=Decimal("0.60"))
    text = page.get("/launch/vastai/77/").content.decode()
    assert text.count('id="tries"') == 1 and near.machine_id in text and "same GPU" in text
    terms = {"fallback": "gpu", "max_price_per_hour": "0.45", "disk_gb": "40"}

    def tries(**more: str) -> str:
        text = page.get("/estimate/vastai/77/", terms | more).content.decode()
        return text[text.index('id="tries"') :]

    assert 'hx-swap-oob="true"' in tries() and near.machine_id in tries()
    assert near.machine_id not in tries(same_country="on")
    assert near.machine_id not in tries(fallback="none")
    assert "this offer or none" in tries(fallback="none")
    assert "the next that fits costs $0.418/h" in tries(max_price_per_hour="0.41")
    assert "no other offer is like this one" in tries(min_reliability="99.5")
    assert near.machine_id in tries(fallback="nonsense", min_reliability="-3")


def test_the_page_asks_the_database_a_constant_number_of_times(
    page, person, offer, django_assert_max_num_queries
) -> None:
    page.get("/launch/vastai/77/")
    with django_assert_max_num_queries(40) as few:
        page.get("/launch/vastai/77/")
    with django_assert_max_num_queries(40) as estimate:
        page.get("/estimate/vastai/77/?disk_gb=50")
    for _ in range(20):
        make_offer()
    make_key(person)
    with django_assert_max_num_queries(40) as many:
        page.get("/launch/vastai/77/")
    with django_assert_max_num_queries(40) as estimates:
        page.get("/estimate/vastai/77/?disk_gb=50")
    # Alone, it asks once more: what the ceiling keeps out.
    assert len(many) == len(few) - 1 and len(estimates) == len(estimate) - 1


@pytest.mark.parametrize("name", ["image", "disk_gb", "hours", "max_price_per_hour", "new_key"])
def test_a_wrong_field_has_the_focus_and_its_error_tied_to_it(page, offer, terms, name) -> None:
    answer = page.post("/launch/vastai/77/", terms | {name: "!"})
    [field] = re.findall(rf'<(?:input|textarea)[^>]* name="{name}"[^>]*>', answer.content.decode())
    assert " autofocus" in field and 'aria-invalid="true"' in field
    described = re.search(r'aria-describedby="([^"]*)"', field)
    assert described and f"id_{name}_error" in described[1].split()
    assert f'id="id_{name}_error"' in answer.content.decode()


def test_only_the_first_of_wrong_fields_has_the_focus(page, offer, terms) -> None:
    wrong = {"image": "!", "hours": "0", "max_price_per_hour": "x"}
    text = page.post("/launch/vastai/77/", terms | wrong).content.decode()
    assert text.count(" autofocus") == 1


def test_a_script_is_counted_with_the_line_ends_of_the_machine(page, offer, terms) -> None:
    limit = registry.capabilities("vastai").script_max_chars
    script = "a\r\n" * (limit // 2)
    assert page.post("/launch/vastai/77/", terms | {"startup_script": script}).status_code == 302
    longer = terms | {"idempotency_key": str(uuid4()), "startup_script": script + "b\r\n"}
    answer = page.post("/launch/vastai/77/", longer)
    assert answer.status_code == 422
    assert f"at most {limit} characters (it has {limit + 2})" in answer.content.decode()
    assert f'data-count="{limit}"' in answer.content.decode()
