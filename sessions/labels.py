"""Our mark on an instance: gb1-<deployment 10>-<session 16>-<n>-<mac 8>, at most 48 characters.

Only a label whose MAC verifies under this deployment's secret, for this very provider and
account, is ours (I1).
"""

import hmac
import json
import re
from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256

from .identity import Identity

VERSION = "gb1"
GRAMMAR = re.compile(
    rf"{VERSION}-(?P<deployment>[a-z0-9]{{10}})-(?P<code>[a-z0-9]{{16}})"
    r"-(?P<number>[1-9][0-9]{0,6})-(?P<mac>[a-z2-7]{8})"
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    deployment: str
    code: str  # of the session
    number: int  # of the attempt
    mac: str


def make(identity: Identity, provider: str, account_id: str, code: str, number: int) -> str:
    """ValueError when the parts cannot form a label, or there is no secret to sign it with."""
    mac = _mac(identity, provider, account_id, code, number)
    label = f"{VERSION}-{identity.deployment_id}-{code}-{number}-{mac}"
    if not identity.secret or not GRAMMAR.fullmatch(label):
        raise ValueError(f"no label can be made of {identity.deployment_id!r} {code!r} {number!r}")
    return label


def parse(label: str) -> Parts | None:
    """What the label claims; `ours` says whether it is true."""
    match = GRAMMAR.fullmatch(label)  # not match() with $: that would allow a newline at the end
    if not match:
        return None
    return Parts(
        deployment=match["deployment"],
        code=match["code"],
        number=int(match["number"]),
        mac=match["mac"],
    )


def ours(identity: Identity, label: str, provider: str, account_id: str) -> Parts | None:
    """The parts of a label that this deployment made for this provider and account."""
    parts = parse(label)
    if parts is None or not identity.secret:
        return None
    mac = _mac(identity, provider, account_id, parts.code, parts.number)
    expected = f"{VERSION}-{identity.deployment_id}-{parts.code}-{parts.number}-{mac}"
    return parts if hmac.compare_digest(label.encode(), expected.encode()) else None


def _mac(identity: Identity, provider: str, account_id: str, code: str, number: int) -> str:
    """JSON keeps the parts apart: "a" + "bc" never signs like "ab" + "c"."""
    parts = [VERSION, provider, account_id, identity.deployment_id, code, number]
    digest = hmac.new(identity.secret.encode(), json.dumps(parts).encode(), sha256).digest()
    return b32encode(digest[:5]).decode().lower()
