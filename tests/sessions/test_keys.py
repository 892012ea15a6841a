"""People's SSH keys: one key blob in normal form, or a refusal that says what to do."""

import random
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from subprocess import run

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from sessions.keys import KeyRefused, generate, parse_public

SEED = 20260504
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
BLOB = ED25519.split()[1]


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def sk_line(kind: str, *fields: bytes) -> str:
    blob = string(kind.encode()) + b"".join(map(string, fields))
    return f"{kind} {b64encode(blob).decode()}"


def openssh(key) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


POINT = (
    ec.derive_private_key(7, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
POINT_384 = ec.derive_private_key(7, ec.SECP384R1()).public_key()
KINDS = {
    "ssh-ed25519": ED25519,
    "ecdsa-sha2-nistp256": openssh(ec.derive_private_key(7, ec.SECP256R1()).public_key()),
    "ecdsa-sha2-nistp384": openssh(POINT_384),
    "ecdsa-sha2-nistp521": openssh(ec.derive_private_key(7, ec.SECP521R1()).public_key()),
    "ssh-rsa": openssh(rsa.generate_private_key(65537, 2048).public_key()),
    "sk-ssh-ed25519@openssh.com": sk_line("sk-ssh-ed25519@openssh.com", b"\x07" * 32, b"ssh:"),
    "sk-ecdsa-sha2-nistp256@openssh.com": sk_line(
        "sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT, b"ssh:"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_modern_kind_is_taken(kind: str) -> None:
    key = parse_public(f"  {KINDS[kind]}   ada@laptop of Ada\r\n")
    assert (key.line, key.kind, key.comment) == (KINDS[kind], kind, "ada@laptop of Ada")
    digest = sha256(b64decode(KINDS[kind].split()[1])).digest()
    assert key.fingerprint == f"SHA256:{b64encode(digest).decode().rstrip('=')}"


def test_two_thousand_random_keys_keep_their_normal_form() -> None:
    chance = random.Random(SEED)
    for _ in range(2000):
        blob = string(b"ssh-ed25519") + string(chance.randbytes(32))
        line = f"ssh-ed25519 {b64encode(blob).decode()}"
        comment = "".join(chance.choices("ab \t$(;'\"`|&<>@é", k=chance.randrange(20)))
        space = chance.choice([" ", "  ", "\t", " \t "])
        key = parse_public(line.replace(" ", space) + space + comment + chance.choice(["", "\n"]))
        assert key.line == line
        assert parse_public(key.line) == parse_public(f"{key.line}\n")
        assert parse_public(key.line).fingerprint == key.fingerprint


def test_two_thousand_damaged_keys_are_refused_or_another_key() -> None:
    """One flipped bit never ends in another error, nor in the same key."""
    chance = random.Random(SEED)
    originals = [b64decode(line.split()[1]) for line in KINDS.values()]
    for _ in range(2000):
        number = chance.randrange(len(originals))
        kind, blob = list(KINDS)[number], bytearray(originals[number])
        blob[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        try:
            key = parse_public(f"{kind} {b64encode(blob).decode()}")
        except KeyRefused:
            continue
        assert key.line != KINDS[kind]
        assert parse_public(key.line) == key


WEAK_RSA = openssh(rsa.generate_private_key(65537, 1024).public_key())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("hello", "not a public SSH key"),
        ("ssh-ed25519", "not a public SSH key"),
        ("ssh-ed25519 !!!!", "not base64"),
        (f"ssh-ed25519 {BLOB[:-4]}", "cannot be read"),
        (f"ssh-ed25519 {BLOB}AAAA", "cannot be read"),
        (f"ssh-rsa {BLOB}", "something else"),
        (f"{ED25519}\n{ED25519}", "one line"),
        (f"{ED25519} a\rcommand", "one line"),
        (f"{ED25519} a\u2028b", "one line"),
        (f"{ED25519} a\x00b", "invisible"),
        (f"{ED25519} a\u200bb", "invisible"),
        (f"{ED25519} \ud800", "invisible"),
        (f'command="rm -rf /" {ED25519}', "Options"),
        (f'from="10.0.0.1",no-pty {ED25519}', "Options"),
        (f"no-pty {ED25519}", "Options"),
        pytest.param(ED25519 + " x" * 10_000, "too long", id="long-comment"),
        pytest.param("A" * 1_000_000, "too long", id="long"),
        (f"ssh-ed25519-cert-v01@openssh.com {BLOB}", "not a public SSH key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "not a public SSH key"),
        pytest.param(WEAK_RSA, "2048 bits", id="weak-rsa"),  # made anew: no name for xdist
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAP", "no longer safe"),
        ("$(touch /tmp/x)", "not a public SSH key"),
    ],
)
def test_anything_else_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(KeyRefused, match=words):
        parse_public(text)


def private_keys() -> list[str]:
    ed25519, old = Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    forms = [(ed25519, PrivateFormat.OpenSSH), (ed25519, PrivateFormat.PKCS8)]
    forms += [(old, PrivateFormat.TraditionalOpenSSL)]
    pems = [key.private_bytes(Encoding.PEM, form, NoEncryption()).decode() for key, form in forms]
    putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n"
    return [*pems, pems[0].replace("\n", " "), f"{ED25519}\n{pems[0]}", putty]


@pytest.mark.parametrize("number", range(6))
def test_a_private_key_gets_a_warning_that_does_not_repeat_it(number: int) -> None:
    text = private_keys()[number]
    with pytest.raises(KeyRefused, match="private key: never paste it anywhere") as caught:
        parse_public(text)
    assert text.split()[-2] not in str(caught.value)


def test_a_generated_pair_belongs_together_and_openssh_reads_it(tmp_path: Path) -> None:
    pair = generate("gpubroker")
    key = load_ssh_private_key(pair.private_pem.encode(), None)
    assert pair.public_line == f"{openssh(key.public_key())} gpubroker"
    assert parse_public(pair.public_line).comment == "gpubroker"
    plain = generate().public_line
    assert parse_public(plain).line == plain
    assert generate().private_pem != pair.private_pem
    assert pair.private_pem not in repr(pair)
    path = tmp_path / "id"
    path.write_text(pair.private_pem)
    path.chmod(0o600)
    shown = run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[:2] == pair.public_line.split()[:2]
