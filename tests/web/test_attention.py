"""The page "Needs attention": who sees what, who may do what, and the banner of every page."""

import re
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from providers import catalog
from providers.base import Instance, InstanceState, Listing
from providers.models import ProviderHealth
from sessions import identity, labels, watch
from sessions.models import AuditEvent, Heartbeat, Session, Sighting
from tests.factories import make_user
from tests.web.scenes import build

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"
FROZEN = "the listing lacks 3 of 3 live instances at once"


@pytest.fixture(autouse=True)
def worker(installed) -> None:
    Heartbeat.objects.create(name="worker", at=timezone.now())


def signed_in(*rights: str, name: str = "boss") -> Client:
    user = make_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


@pytest.fixture
def admin() -> Client:
    return signed_in("view_all_sessions", "stop_all_sessions")


@pytest.fixture
def viewer() -> Client:
    return signed_in("view_all_sessions", name="viewer")


@pytest.fixture
def orphan() -> Sighting:
    """Ours by its label, on the account among a machine of somebody else."""
    now, label = timezone.now(), labels.make(identity.current(), "vastai", "1001", "a" * 16, 1)
    machines = [machine("777", label), machine("888", "<b>not ours</b>")]
    listing = Listing(instances=tuple(machines), account_id="1001")
    catalog.store_listing("vastai", listing, started_at=now, now=now)
    return Sighting.objects.create(
        provider="vastai", instance_id="777", label=label, first_seen_at=now, last_seen_at=now
    )


def machine(instance_id: str, label: str) -> Instance:
    return Instance(
        provider="vastai", instance_id=instance_id, label=label, state=InstanceState.RUNNING,
        raw_state="running", price_per_hour=Decimal("0.4"), gpu_name_raw="RTX 4090", gpu_count=1,
    )  # fmt: skip


def text(client: Client, url: str = "/attention/") -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def address(name: str, orphan: Sighting) -> str:
    args = ["vastai"] if name == "provider_release" else [orphan.pk]
    return reverse(name, args=args)


ACTIONS = {
    "orphan_destroy": {"confirm": "777"},
    "orphan_ignore": {"reason": "a demo runs on it"},
    "orphan_adopt": {"reason": "a demo runs on it", "confirm": "777"},
    "provider_release": {"reason": "looked at it", "frozen": FROZEN},
}


def decided() -> tuple:
    """What the actions change, and their events."""
    sighting, health = Sighting.objects.get(), ProviderHealth.objects.get()
    return (
        sighting.hurried_at, sighting.ignored_at, sighting.gone_at, health.frozen_reason,
        AuditEvent.objects.count(),
    )  # fmt: skip


def test_nothing_is_wrong(admin):
    page = text(admin)
    assert "Nothing needs you" in page and "banner bad" not in page


def test_an_administrator_sees_all_there_is(admin, orphan):
    ProviderHealth.objects.update(frozen_reason=FROZEN)
    build("host_key", timezone.now())
    page = text(admin)
    for words in ("Orphans", "777", "Held back", FROZEN, "Unmanaged", "888", "host key changed"):
        assert words in page
    assert "&lt;b&gt;not ours" in page and "<b>not ours" not in page
    for name in ACTIONS:
        assert address(name, orphan) in page


def test_who_may_see_all_but_stop_nothing_gets_no_buttons(viewer, orphan):
    ProviderHealth.objects.update(frozen_reason=FROZEN)
    page = text(viewer)
    main = page.partition("<main")[2].partition("</main>")[0]
    assert "777" in main and "<form" not in main and "<button" not in main


def test_others_see_only_what_is_wrong_with_their_own(page, person, orphan):
    ProviderHealth.objects.update(frozen_reason=FROZEN)
    build("host_key", timezone.now())
    assert "Nothing needs you" in text(page)
    session, _ = build("unreachable", timezone.now(), owner=person)
    shown = text(page)
    assert "SSH does not answer" in shown and session.code in shown
    for words in ("host key changed", FROZEN, "Orphans", 'href="/attention/"'):
        assert words not in shown
    for number in ("777", "888"):  # as a word: an instant may have these digits
        assert not re.search(rf"\b{number}\b", shown)


@pytest.mark.parametrize("name", ACTIONS)
def test_each_action_is_done_once_by_those_who_may(admin, orphan, name):
    ProviderHealth.objects.update(frozen_reason=FROZEN)
    before = decided()
    first = admin.post(address(name, orphan), ACTIONS[name])
    again = admin.post(address(name, orphan), ACTIONS[name])
    made = Session.objects.first()
    assert first.status_code == 302
    assert first["Location"] == (f"/sessions/{made.pk}/" if made else "/attention/")
    assert again.status_code == (404 if made else 302)
    assert decided()[:4] != before[:4] and bool(made) == (name == "orphan_adopt")
    what = {
        "orphan_destroy": "orphan.hurried",
        "orphan_ignore": "orphan.ignored",
        "orphan_adopt": "session.adopted",
    }
    event = AuditEvent.objects.get(action=what.get(name, "provider.released"))
    assert event.actor.startswith("user:") and event.provider == "vastai" and event.request_id
    assert event.reason == ACTIONS[name].get("reason", "")


@pytest.mark.parametrize("name", ACTIONS)
def test_nobody_else_does_anything(page, viewer, admin, orphan, name):
    ProviderHealth.objects.update(frozen_reason=FROZEN)
    before, url = decided(), address(name, orphan)
    assert "/login/" in Client().post(url, ACTIONS[name])["Location"]
    assert page.post(url, ACTIONS[name]).status_code == 404
    assert viewer.post(url, ACTIONS[name]).status_code == 404
    assert signed_in("stop_all_sessions", name="x").post(url, ACTIONS[name]).status_code == 404
    assert admin.get(url, ACTIONS[name]).status_code == 405
    assert admin.post(url, {}).status_code == 302  # neither confirmed nor explained
    assert admin.post(url, {"reason": "  ", "confirm": "888"}).status_code == 302
    assert decided() == before


def test_a_freeze_that_is_not_the_one_that_was_shown_stays(admin, orphan):
    ProviderHealth.objects.update(frozen_reason="5 instances without a session appeared at once")
    answer = admin.post("/attention/vastai/release/", ACTIONS["provider_release"], follow=True)
    assert "Nothing was released" in answer.content.decode()
    assert ProviderHealth.objects.get().frozen_reason


def test_why_one_cannot_be_adopted_is_said(admin, orphan):
    build("unreachable", timezone.now(), code="a" * 16)
    page = text(admin)
    assert "Cannot be adopted. Its session is known" in page
    assert address("orphan_adopt", orphan) not in page
    answer = admin.post(address("orphan_adopt", orphan), ACTIONS["orphan_adopt"], follow=True)
    assert "Not adopted. Its session is known" in answer.content.decode()
    assert Session.objects.count() == 1


def test_an_ignored_orphan_stays_listed_with_its_reason(admin, orphan):
    admin.post(address("orphan_ignore", orphan), {"reason": "a demo"})
    page = text(admin)
    assert "777" in page and "“a demo”, boss" in page and "Destroy now" in page


def test_the_banner_is_red_on_every_page_for_those_who_see_all(admin, page, orphan):
    watch.record(timezone.now())
    for url in ("/", "/sessions/", "/keys/", "/providers/"):
        shown = text(admin, url)
        assert "machine 777 belongs to no session" in shown and 'badge bad">1<' in shown
    assert "machine 777" not in text(page, "/sessions/")
    admin.post(address("orphan_ignore", orphan), {"reason": "a demo"})
    assert "belongs to no session" not in text(admin, "/sessions/")


def test_a_dead_worker_is_seen_although_nobody_records_it(admin):
    Heartbeat.objects.all().delete()
    assert "The worker gives no sign of life" in text(admin, "/sessions/")
