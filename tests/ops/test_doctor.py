"""The doctor's findings, its page, the anchor of each minute, and the look at all machines."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from gpubroker import doctor
from providers import catalog
from providers.base import AuthRefused, Instance, InstanceState, Listing
from providers.models import ProviderHealth
from sessions import audit, audit_triggers, identity, labels, slices, tasks
from sessions.models import AuditEvent, Heartbeat, Session, Sighting, Slot
from tests.factories import make_attempt, make_health, make_session, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def well(settings) -> None:
    """All is as it should be, with one marketplace."""
    settings.PROVIDERS = {"vastai": {"api_key": "hush-hush-123", "base_url": "http://127.0.0.1:9"}}
    identity.ensure()
    make_health(balance=Decimal("10"))
    Heartbeat.objects.create(name="worker", at=timezone.now())
    Slot.objects.create(number=0, generation=1, beat_at=timezone.now())


def machine(number: int, label: str, price: str = "0.25") -> Instance:
    return Instance(
        provider="vastai",
        instance_id=str(number),
        label=label,
        state=InstanceState.RUNNING,
        price_per_hour=Decimal(price),
    )


def label(code: str = "s" * 16, number: int = 1) -> str:
    return labels.make(identity.current(), "vastai", "1001", code, number)


def listed(*instances: Instance) -> None:
    now = timezone.now()
    listing = Listing(instances=instances, account_id="1001")
    catalog.store_listing("vastai", listing, started_at=now, now=now)


def problems() -> set[str]:
    return {finding.name for finding in doctor.stored(timezone.now()) if not finding.ok}


def detail(name: str) -> str:
    (found,) = [each for each in doctor.stored(timezone.now()) if each.name == name]
    return found.detail


def test_nothing_is_wrong_and_no_secret_is_told(well: None) -> None:
    assert problems() == set()
    assert "hush" not in json.dumps([each.detail for each in doctor.stored(timezone.now())])


def break_worker() -> None:
    Heartbeat.objects.update(at=timezone.now() - timedelta(minutes=2))


def break_clock() -> None:
    Heartbeat.objects.update(at=timezone.now() + timedelta(minutes=2))


def break_slices() -> None:
    Slot.objects.update(beat_at=None)


def break_key() -> None:
    ProviderHealth.objects.update(auth_error="401 Unauthorized")


def break_balance() -> None:
    ProviderHealth.objects.update(balance=Decimal("0.30"))
    listed(machine(1, "somebody", "0.40"))


def break_machines() -> None:
    listed(machine(1, label()))


def break_anchor() -> None:
    audit.write_file(audit._anchor_path(), json.dumps({"sequence": 99, "hash": "f" * 64}))


BREAKS = [
    (break_worker, {"worker"}),
    (break_clock, {"clock"}),
    (break_slices, {"slices"}),
    (break_key, {"offers vastai", "key vastai"}),
    (break_balance, {"balance vastai"}),
    (break_machines, {"machines vastai"}),
    (break_anchor, {"audit anchor", "identity"}),
]


@pytest.mark.parametrize(
    ("break_it", "named"), BREAKS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_problem_is_named_alone(
    well: None, break_it: Callable[[], None], named: set[str]
) -> None:
    break_it()
    assert problems() == named


def test_missing_triggers_and_read_only_and_no_marketplace(well: None, settings) -> None:
    with connection.cursor() as cursor:
        for statement in audit_triggers.removal(connection.vendor):
            cursor.execute(statement)
    settings.DEPLOYMENT_ID = "anotherone"
    settings.PROVIDERS = {}
    settings.CONFIG_PROBLEMS = ["TENSORDOCK_API_KEY is not a variable of gpubroker"]
    assert problems() == {"audit triggers", "identity", "marketplaces", "configuration"}


def test_a_database_that_does_not_answer_is_a_finding(well: None, monkeypatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OperationalError("password=hush-hush-123")

    monkeypatch.setattr("gpubroker.doctor.health.worker", refuse)
    assert problems() == {"worker"}
    assert "hush" not in detail("worker")


def test_machines_of_others_are_counted_with_what_they_cost(well: None) -> None:
    listed(machine(1, "training-7", "0.25"), machine(2, "", "1.00"))
    assert problems() == set()
    assert "2 not managed here, $1.250/h together" in detail("machines vastai")
    assert detail("balance vastai").endswith("8.0 h at $1.250/h")


def test_the_command_reads_the_whole_trail_and_asks_the_marketplaces(
    well: None, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise AuthRefused("401")

    monkeypatch.setattr("providers.registry.get", refuse)
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json")
    report = json.loads(capsys.readouterr().out)
    names = {each["name"]: each["ok"] for each in report["findings"]}
    assert (ended.value.code, report["ok"]) == (1, False)
    assert (names["audit chain"], names["credential vastai"]) == (True, False)
    assert [name for name, ok in names.items() if not ok] == ["credential vastai"]


def test_the_page_is_for_administrators_and_asks_nobody(well: None, monkeypatch) -> None:
    monkeypatch.setattr("providers.registry.get", lambda name: pytest.fail("a page asked"))
    client = Client()
    client.force_login(make_user())
    assert client.get("/doctor/").status_code == 403
    client.force_login(make_user(is_staff=True))
    break_worker()
    text = client.get("/doctor/").content.decode()
    assert "1 problem in what was last read" in text
    assert "hush" not in text
    assert client.post("/doctor/").status_code == 405


def test_each_minute_the_newest_event_is_anchored(well: None, monkeypatch) -> None:
    monkeypatch.setattr(slices, "ensure", lambda now=None: [])
    tasks.backstop()
    assert audit.read_anchor().sequence == AuditEvent.objects.count()
    audit.append("session.state", actor="worker")
    tasks.backstop()
    assert audit.read_anchor().sequence == AuditEvent.objects.count()
    break_anchor()
    tasks.backstop()
    assert audit.read_anchor().sequence == 99, "an anchor that the database lost must stay"


def test_sweep_shows_all_machines_and_changes_nothing(
    well: None, capsys: pytest.CaptureFixture[str]
) -> None:
    known = make_attempt(make_session("running"), label=label("k" * 16), instance_id="1")
    listed(
        machine(1, known.label), machine(2, label("z" * 16)), machine(3, "training-7\x1b[2J"),
        machine(4, known.label),
    )  # fmt: skip
    before = list(Session.objects.values()), AuditEvent.objects.count()
    call_command("sweep", "--dry-run")
    text = capsys.readouterr().out
    assert "1 of open sessions, kept, $0.250/h" in text
    assert "2 ours without a session, to be destroyed, $0.500/h" in text
    assert "1 foreign, never touched" in text
    assert "\x1b" not in text
    assert (list(Session.objects.values()), AuditEvent.objects.count()) == before
    assert not Sighting.objects.exists()
    assert not Heartbeat.objects.filter(name__startswith="sweep").exists()


def test_sweep_leaves_the_sweeping_to_the_worker(well: None) -> None:
    with pytest.raises(CommandError, match="worker sweeps by itself"):
        call_command("sweep")
