"""SSH keys of people, taken as data and nothing else; and fresh ones made here."""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from providers.clean import clean

LONGEST = 16 * 1024
SHORTEST_RSA = 2048  # bits
KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
PRIVATE = re.compile(r"PRIVATE KEY|PuTTY-User-Key-File|Private-Lines:", re.IGNORECASE)
EXAMPLE = "Paste one line such as: ssh-ed25519 AAAA... you@laptop"


class KeyRefused(Exception):
    """The message is for the person who gave the key."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    line: str  # `type base64`, nothing else
    kind: str
    fingerprint: str  # SHA256:...
    comment: str


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    private_pem: str = field(repr=False)
    public_line: str


def parse_public(text: str) -> PublicKey:
    """One line of a .pub file, in normal form. Raises KeyRefused."""
    kind, encoded, comment = _fields(_one_line(text))
    blob = _normal(kind, _decoded(kind, encoded))
    digest = b64encode(sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(
        line=f"{kind} {b64encode(blob).decode()}",
        kind=kind,
        fingerprint=f"SHA256:{digest}",
        comment=clean(comment, 80),
    )


def generate(comment: str = "") -> KeyPair:
    """A new ed25519 pair, the private half as an unencrypted OpenSSH PEM."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private_pem=pem.decode(), public_line=f"{public.decode()} {comment}".rstrip())


def _one_line(text: str) -> str:
    if PRIVATE.search(text[: 4 * LONGEST]):
        raise KeyRefused(
            "This is a private key: never paste it anywhere. Give the file that ends in .pub; "
            "if this key was ever shown to somebody else, make a new one."
        )
    if len(text) > LONGEST:
        raise KeyRefused(f"This is too long for a public key. {EXAMPLE}")
    line = text.strip(" \t\r\n")
    if not line:
        raise KeyRefused(f"This is empty. {EXAMPLE}")
    if len(line.splitlines()) > 1:
        raise KeyRefused(f"Give one key, on one line. {EXAMPLE}")
    if not line.replace("\t", " ").isprintable():
        raise KeyRefused(f"There are invisible characters in it. {EXAMPLE}")
    return line


def _fields(line: str) -> tuple[str, str, str]:
    kind, _, rest = line.replace("\t", " ").partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if kind in KINDS and encoded:
        return kind, encoded, comment
    if any(f"{known} AAAA" in line for known in KINDS):
        raise KeyRefused(f"Options before the key are not taken: leave them out. {EXAMPLE}")
    if kind == "ssh-dss":
        raise KeyRefused("DSA keys are no longer safe. Make one with: ssh-keygen -t ed25519")
    raise KeyRefused(f"This is not a public SSH key of a kind that is taken. {EXAMPLE}")


def _decoded(kind: str, encoded: str) -> bytes:
    try:
        blob = b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        raise KeyRefused(f"The key is damaged: its middle part is not base64. {EXAMPLE}") from None
    if blob[4 : 4 + len(kind)] != kind.encode():
        raise KeyRefused(f"The key is damaged: it says {kind} but holds something else.")
    return blob


def _normal(kind: str, blob: bytes) -> bytes:
    """The same key in its one true encoding; its numbers were checked on the way."""
    try:
        key = load_ssh_public_key(f"{kind} {b64encode(blob).decode()}".encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise KeyRefused(f"The key is damaged: it cannot be read as {kind}.") from None
    if isinstance(key, RSAPublicKey) and key.key_size < SHORTEST_RSA:
        raise KeyRefused(
            f"RSA keys need {SHORTEST_RSA} bits or more. Make one with: ssh-keygen -t ed25519"
        )
    if kind.startswith("sk-"):
        return blob  # names its application too, which the library leaves out
    return b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
