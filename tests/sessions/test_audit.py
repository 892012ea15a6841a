"""The audit trail: nobody changes it through the database, and any other change is found."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from sessions import audit
from sessions.models import AuditEvent
from tests.audit_tools import suspended
from tests.factories import make_session

NOW = datetime(2026, 5, 4, 12, 30, 15, 123456, tzinfo=UTC)
TABLE = AuditEvent._meta.db_table


def fill(count: int = 5) -> list[AuditEvent]:
    return [
        audit.append(
            "session.state",
            actor="worker",
            reason="user",
            provider="vastai",
            label=f"gb1-example-{number}",
            request_id=f"request-{number}",
            data={"from": "running", "to": "stopping", "n": number},
            now=NOW + timedelta(seconds=number),
        )
        for number in range(1, count + 1)
    ]


def forge(sql: str, *parameters: object) -> None:
    """What somebody with full access to the database could do."""
    with suspended(connection), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


@pytest.mark.django_db
def test_a_chain_of_events_holds() -> None:
    session = make_session()
    mark = audit.request_id.set("from-the-page")
    event = audit.append("session.launch", actor="user:7", session=session, data={"hours": 4})
    audit.request_id.reset(mark)
    follower = audit.append("session.state", actor="worker")

    assert (event.sequence, event.previous_hash) == (1, audit.GENESIS)
    assert (follower.sequence, follower.previous_hash) == (2, event.hash)
    assert (event.session_code, event.request_id) == (session.code, "from-the-page")
    assert follower.request_id == ""
    assert audit.verify() == audit.Verdict(ok=True, checked=2, problem="")


@pytest.mark.django_db
def test_whatever_is_written_is_read_back_with_the_same_hash() -> None:
    hostile = "\x00 \ud800 \u202e ünï <b>"
    data = {
        "price": 0.1, "huge": 1e300, "minus": -0.0, "odd": float("nan"), "big": 2**80,
        "nested": {"list": [1, None, True, {"text": hostile}], "at": NOW}, "pair": ("a", 2),
    }  # fmt: skip
    audit.append("provider.create.result", actor="worker", reason=hostile * 90, data=data)

    assert audit.verify().ok
    stored = AuditEvent.objects.get()
    assert stored.data["price"] == "0.1"
    assert stored.data["big"] == 2**80
    assert len(stored.reason) == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["api_key", "instance_api_key", "Password", "secret", "access_token", "private_pem"]
)
def test_values_that_are_called_secret_are_refused(name: str) -> None:
    with pytest.raises(audit.SecretInAudit):
        audit.append("provider.create.result", actor="worker", data={"deep": [{name: "x"}]})
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE {TABLE} SET reason = 'nothing to see' WHERE sequence = 2",
        f"DELETE FROM {TABLE} WHERE sequence = 2",
        f"DELETE FROM {TABLE}",
        f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE sequence = 2 "
        "ON CONFLICT (sequence) DO UPDATE SET reason = 'nothing to see'",
        pytest.param("REPLACE", id="replace"),
        pytest.param("TRUNCATE", id="truncate"),
    ],
)
def test_the_database_refuses_to_change_the_trail(sql: str) -> None:
    fill()
    sqlite = connection.vendor == "sqlite"
    if sql == "REPLACE":  # only SQLite has it; the plain insert is refused everywhere
        verb = "INSERT OR REPLACE" if sqlite else "INSERT"
        sql = f"{verb} INTO {TABLE} SELECT * FROM {TABLE} WHERE sequence = 2"
    if sql == "TRUNCATE":  # SQLite has none; deleting everything is the same there
        sql = f"DELETE FROM {TABLE} WHERE true" if sqlite else f"TRUNCATE {TABLE}"
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    assert audit.verify().checked == 5


@pytest.mark.django_db
def test_the_orm_is_refused_as_well() -> None:
    event = fill()[2]
    event.reason = "nothing to see"
    for change in (event.save, event.delete, AuditEvent.objects.all().delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
    assert audit.verify().ok


FLIPS = {
    "at": "2026-05-04 12:30:17.123457+00:00",
    "action": "session.launch",
    "actor": "user:1",
    "reason": "",
    "session_code": "another",
    "provider": "tensordock",
    "label": "gb1-example-3",
    "request_id": "",
    "data": '{"from": "running", "to": "stopping", "n": 3}',
    "previous_hash": "1" * 64,
    "hash": "1" * 64,
    "sequence": 7,
}


@pytest.mark.django_db
@pytest.mark.parametrize("column", FLIPS)
def test_a_change_of_any_column_is_found(column: str) -> None:
    fill()
    forge(f"UPDATE {TABLE} SET {column} = %s WHERE sequence = 2", FLIPS[column])
    verdict = audit.verify()
    assert not verdict.ok
    assert verdict.checked == 1
    assert "2" in verdict.problem


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("column", "old", "new"), [("at", "17.123456", "17,123456"), ("data", "u00fc", "u00FC")]
)
def test_another_text_of_the_same_value_is_found(column: str, old: str, new: str) -> None:
    """One flipped bit each. PostgreSQL keeps values and no texts: there nothing changes."""
    fill(2)
    audit.append("session.state", actor="worker", data={"name": "ü"})
    if connection.vendor == "sqlite":
        forge(f"UPDATE {TABLE} SET {column} = REPLACE({column}, %s, %s)", old, new)
    assert audit.verify().ok == (connection.vendor != "sqlite")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "2026-55-04 12:30:17"),
        ("at", "soon"),
        ("actor", "CAST(X'ff' AS TEXT)"),
    ],
)
def test_what_cannot_be_read_was_changed(column: str, value: str) -> None:
    """PostgreSQL itself refuses times that are none; its cast makes an ordinary text."""
    fill()
    cast = value.startswith("CAST")
    value = value if cast else f"'{value}'"
    sql = f"UPDATE {TABLE} SET {column} = {value} WHERE sequence = 2"
    if cast or connection.vendor == "sqlite":
        forge(sql)
        assert not audit.verify().ok
    else:
        with pytest.raises(DatabaseError), transaction.atomic():
            forge(sql)


def test_every_column_is_flipped_above() -> None:
    assert set(FLIPS) == {field.name for field in AuditEvent._meta.fields}


@pytest.mark.django_db
@pytest.mark.parametrize("sequence", [1, 3])
def test_a_deletion_is_found(sequence: int) -> None:
    fill()
    forge(f"DELETE FROM {TABLE} WHERE sequence = %s", sequence)
    assert not audit.verify().ok


@pytest.mark.django_db
def test_a_deletion_with_all_later_numbers_closed_up_is_found() -> None:
    fill()
    forge(f"DELETE FROM {TABLE} WHERE sequence = 3")
    forge(f"UPDATE {TABLE} SET sequence = 3 WHERE sequence = 4")
    forge(f"UPDATE {TABLE} SET sequence = 4 WHERE sequence = 5")
    assert not audit.verify().ok


def rehash(sequence: int, previous_hash: str) -> str:
    """A forger who knows how hashes are made -> the new hash."""
    event = AuditEvent.objects.get(sequence=sequence)
    event.previous_hash = previous_hash
    event.hash = audit._hash(event)
    columns = "previous_hash = %s, hash = %s"
    forge(f"UPDATE {TABLE} SET {columns} WHERE sequence = %s", previous_hash, event.hash, sequence)
    return event.hash


@pytest.mark.django_db
def test_a_change_with_its_hash_made_anew_breaks_the_chain_after_it() -> None:
    events = fill()
    forge(f"UPDATE {TABLE} SET actor = 'user:9' WHERE sequence = 2")
    rehash(2, events[0].hash)
    assert "Event 3 does not follow" in audit.verify().problem


@pytest.mark.django_db
def test_a_gap_with_all_later_hashes_made_anew_is_found() -> None:
    events = fill()
    forge(f"DELETE FROM {TABLE} WHERE sequence = 3")
    rehash(5, rehash(4, events[1].hash))
    assert "Event 3 is missing" in audit.verify().problem


@pytest.mark.django_db
def test_another_order_is_found() -> None:
    fill()
    for old, new in ((2, 99), (3, 2), (99, 3)):
        forge(f"UPDATE {TABLE} SET sequence = %s WHERE sequence = %s", new, old)
    assert not audit.verify().ok


@pytest.mark.django_db
def test_a_cut_off_end_is_found_by_the_anchor() -> None:
    fill()
    assert audit.write_anchor(NOW)
    assert audit.verify().ok
    forge(f"DELETE FROM {TABLE} WHERE sequence > 3")

    assert not audit.verify().ok
    assert "5" in audit.anchor_problem()
    assert not audit.write_anchor(NOW)  # the evidence stays
    assert audit.read_anchor().sequence == 5


@pytest.mark.django_db
def test_a_trail_written_anew_from_the_start_is_found_by_the_anchor() -> None:
    fill()
    audit.write_anchor(NOW)
    forge(f"DELETE FROM {TABLE}")
    for _ in range(7):
        audit.append("session.state", actor="worker")
    assert "anchor" in audit.verify().problem


@pytest.mark.django_db
def test_a_damaged_anchor_is_a_problem_and_a_new_one_moves_on(settings) -> None:
    fill(2)
    audit.write_anchor(NOW)
    audit.append("session.state", actor="worker")
    assert audit.write_anchor(NOW)
    assert audit.read_anchor().sequence == 3
    (settings.DATA_DIR / "audit-anchor").write_text("{")
    assert not audit.verify().ok
    assert audit.anchor_problem()


@pytest.mark.django_db
def test_an_event_leaves_with_the_transaction_that_wrote_it() -> None:
    fill(1)
    with pytest.raises(KeyError), transaction.atomic():
        audit.append("session.state", actor="worker")
        raise KeyError
    assert audit.append("session.state", actor="worker").sequence == 2


@pytest.mark.django_db
def test_the_command_says_whether_the_trail_is_whole() -> None:
    out = StringIO()
    fill()
    audit.write_anchor(timezone.now())
    call_command("audit_verify", stdout=out)
    assert "5 events, anchored at 5" in out.getvalue()
    forge(f"UPDATE {TABLE} SET actor = 'user:9' WHERE sequence = 4")
    with pytest.raises(CommandError, match="Event 4 was changed"):
        call_command("audit_verify")
    with suspended(connection), pytest.raises(CommandError, match="does not protect"):
        call_command("audit_verify")


@pytest.mark.django_db(transaction=True)
def test_the_next_tests_find_an_empty_trail() -> None:
    """The flush after this test would fail if it were not allowed to empty the trail."""
    assert fill(1)[0].sequence == 1
