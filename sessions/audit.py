"""The audit trail: one global hash chain, and an anchor for it outside the database (I23).

Each row's hash covers its sequence, the hash before it and its canonical content, so an edit,
a deletion or another order breaks the chain. The anchor (sequence and hash of a recent row)
shows what a chain alone cannot: a cut-off end, and a database restored from a backup.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils import timezone

from .models import AuditEvent, Session

GENESIS = "0" * 64
LOCK = 7_041_776_240  # our number among PostgreSQL's advisory locks
SECRET_KEY = re.compile(
    r"(?i)passw|passphrase|secret|token|api_?key|private|credential|authorization|cookie|_pem$"
)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses them

request_id: ContextVar[str] = ContextVar("request_id", default="")


class SecretInAudit(ValueError):
    """The name of a value says that it must not be written here (I25)."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    ok: bool
    checked: int
    problem: str  # a sentence; empty = the chain holds


@dataclass(frozen=True, kw_only=True)
class Anchor:
    sequence: int
    hash: str


START = Anchor(sequence=0, hash=GENESIS)


def append(
    action: str,
    *,
    actor: str,
    session: Session | None = None,
    reason: str = "",
    provider: str = "",
    label: str = "",
    request_id: str = "",
    data: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> AuditEvent:
    """One row, in the caller's transaction. The lock on the chain is held until that ends, so
    change other rows first. `data` must hold no secrets; numbers with a fraction become text."""
    event = AuditEvent(
        at=now or timezone.now(),
        action=action,
        actor=actor,
        reason=_text(reason)[:200],
        session_code=session.code if session else "",
        provider=provider,
        label=label,
        request_id=(request_id or current_request_id())[:40],
        data=_plain(data or {}),
    )
    with transaction.atomic(savepoint=False):
        _lock()
        last = AuditEvent.objects.order_by("-sequence").first()
        event.sequence = last.sequence + 1 if last else 1
        event.previous_hash = last.hash if last else GENESIS
        event.hash = _hash(event)
        event.save(force_insert=True)
    return event


def current_request_id() -> str:
    return request_id.get()


def verify(rows: Iterable[AuditEvent] | None = None) -> Verdict:
    """Walk the chain from its first row, and compare it with the anchor."""
    try:
        anchor = read_anchor()  # before the rows: these only become more
    except ValueError as error:
        return Verdict(ok=False, checked=0, problem=f"{error}.")
    last, problem = walk(stored() if rows is None else rows, START, anchor)
    checked = last.sequence
    if problem:
        return Verdict(ok=False, checked=checked, problem=problem)
    if anchor and anchor.sequence > checked:
        text = f"The trail ends at {checked}, but {anchor.sequence} was written once."
        return Verdict(ok=False, checked=checked, problem=text)
    return Verdict(ok=True, checked=checked, problem="")


def walk(rows: Iterable[AuditEvent], start: Anchor, anchor: Anchor | None) -> tuple[Anchor, str]:
    """The rows after `start`, in order -> the last good one, and what is wrong with the next."""
    try:
        for row in rows:
            problem = _broken(row, start.sequence + 1, start.hash, anchor)
            if problem:
                return start, problem
            start = Anchor(sequence=row.sequence, hash=row.hash)
    except (DatabaseError, ValueError) as error:
        return start, f"An event after {start.sequence} cannot be read ({type(error).__name__})."
    return start, ""


def stored(after: int = 0, most: int | None = None) -> Iterable[AuditEvent]:
    """In order. SQLite keeps instants and JSON as text, in which a bit can change and the value
    stay the same: there they come with that text."""
    rows = AuditEvent.objects.filter(sequence__gt=after).order_by("sequence")
    if connection.vendor == "sqlite":
        texts = {f"stored_{name}": Cast(name, TextField()) for name in ("at", "data")}
        rows = rows.annotate(**texts)
    return rows[:most].iterator(chunk_size=2000)


def _as_written(row: AuditEvent) -> bool:
    """Whether the text is the one that we write for these values."""
    for name in ("at", "data"):
        field, value = AuditEvent._meta.get_field(name), getattr(row, name)
        text = getattr(row, f"stored_{name}", None)
        if text is not None and text != field.get_db_prep_value(value, connection):
            return False
    return row.at is not None


def _broken(row: AuditEvent, sequence: int, previous: str, anchor: Anchor | None) -> str:
    if row.sequence != sequence:
        return f"Event {sequence} is missing: the next one is {row.sequence}."
    if row.previous_hash != previous:
        return f"Event {sequence} does not follow the event before it."
    if not _as_written(row) or row.hash != _hash(row):
        return f"Event {sequence} was changed after it was written."
    if anchor and anchor.sequence == sequence and anchor.hash != row.hash:
        return f"Event {sequence} is not the one that the anchor remembers."
    return ""


def write_anchor(now: datetime) -> bool:
    """Remember the newest event outside the database; never over one that it has lost."""
    last = AuditEvent.objects.order_by("-sequence").first()
    if last is None or anchor_problem():
        return False
    if read_anchor() != Anchor(sequence=last.sequence, hash=last.hash):
        _write_anchor(last, now)
    return True


def replace_anchor(now: datetime) -> None:
    """Only when an operator has declared this database the true one."""
    last = AuditEvent.objects.order_by("-sequence").first()
    if last is None:
        _anchor_path().unlink(missing_ok=True)
    else:
        _write_anchor(last, now)


def read_anchor() -> Anchor | None:
    """None = never written. ValueError when it is damaged."""
    try:
        text = _anchor_path().read_text()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        return Anchor(sequence=int(content["sequence"]), hash=str(content["hash"]))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{_anchor_path()} cannot be read") from None


def anchor_problem() -> str:
    """Empty while the database still has the event that the anchor remembers (I14)."""
    try:
        anchor = read_anchor()
    except ValueError as error:
        return f"{error}."
    if anchor is None:
        return ""
    if AuditEvent.objects.filter(sequence=anchor.sequence, hash=anchor.hash).exists():
        return ""
    return f"The audit trail has lost event {anchor.sequence}, as after restoring a backup."


def _write_anchor(last: AuditEvent, now: datetime) -> None:
    content = {"sequence": last.sequence, "hash": last.hash, "at": now.isoformat()}
    write_file(_anchor_path(), json.dumps(content))


def write_file(path: Path, text: str) -> None:
    """Atomically: readers see the old text or the new one, also after a crash."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _anchor_path() -> Path:
    return settings.DATA_DIR / "audit-anchor"


def _lock() -> None:
    """SQLite needs none: its transactions are IMMEDIATE, one writer at a time."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _hash(event: AuditEvent) -> str:
    body = {
        "sequence": event.sequence,
        "previous_hash": event.previous_hash,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "action": event.action,
        "actor": event.actor,
        "reason": event.reason,
        "session_code": event.session_code,
        "provider": event.provider,
        "label": event.label,
        "request_id": event.request_id,
        "data": event.data,
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON that both databases give back as it was; anything else becomes text."""
    if isinstance(value, Mapping):
        return {_named(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int):
        return value
    return _text(str(value))


def _named(key: object) -> str:
    name = _text(str(key))
    if SECRET_KEY.search(name):
        raise SecretInAudit(f"{name} does not belong into the audit trail")
    return name


def _text(text: str) -> str:
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
