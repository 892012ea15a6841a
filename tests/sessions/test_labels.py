"""Labels: only what this deployment signed, for this provider and account, is ours (I1)."""

from dataclasses import replace

import pytest

from sessions import labels
from sessions.identity import Identity

US = Identity(deployment_id="k4wq7zt2ab", secret="5e" * 32)
CODE = "abcdefgh23456789"
PLACE = ("vastai", "1001")
LABEL = labels.make(US, *PLACE, CODE, 3)


def flipped(label: str) -> str:
    return label[:-1] + ("a" if label[-1] != "a" else "b")


def test_a_label_says_what_it_was_made_of() -> None:
    parts = labels.ours(US, LABEL, *PLACE)
    assert parts == labels.parse(LABEL)
    assert (parts.deployment, parts.code, parts.number) == (US.deployment_id, CODE, 3)
    assert len(LABEL) == 42
    assert len(labels.make(US, *PLACE, CODE, 9_999_999)) == 48


@pytest.mark.parametrize(
    "label",
    [
        "",
        "gb1-",
        "training-run",
        flipped(LABEL),
        LABEL.upper(),
        LABEL[:-1] + LABEL[-1].upper(),
        LABEL + "\n",
        " " + LABEL,
        LABEL + " ",
        LABEL + "\u200b",
        LABEL[:20] + "\u200b" + LABEL[20:],
        LABEL.replace("b", "\u0432"),
        LABEL[:-1],
        LABEL[:-8],
        LABEL + "a",
        LABEL + "-a",
        "x" + LABEL,
        LABEL.replace("gb1", "gb2"),
        LABEL.replace("-3-", "-4-"),
        LABEL.replace("-3-", "-03-"),
        LABEL.replace("-3-", "-\u0663-"),
        LABEL.replace("-3-", "-33333333-"),
        LABEL.replace("abcd", "abcc"),
        LABEL.replace("k4wq", "k4wr"),
        f"{LABEL},{LABEL}",
        "\ud800" + LABEL,
        LABEL * 10_000,
    ],
)
def test_anything_else_is_not_ours(label: str) -> None:
    assert labels.ours(US, label, *PLACE) is None


@pytest.mark.parametrize("label", [LABEL + "\n", LABEL + "\r", LABEL + " ", "\n" + LABEL])
def test_not_even_its_grammar_allows_a_character_more(label: str) -> None:
    assert labels.parse(label) is None


def test_without_a_secret_nothing_is_ours() -> None:
    """Anybody can sign with the empty secret."""
    nobody = replace(US, secret="")
    forged = LABEL[:-8] + labels._mac(nobody, *PLACE, CODE, 3)
    assert labels.ours(nobody, forged, *PLACE) is None


@pytest.mark.parametrize(
    ("who", "place"),
    [
        (US, ("tensordock", "1001")),
        (US, ("vastai", "1002")),
        (US, ("vastai", "")),
        (US, ("vastai1", "001")),
        (replace(US, secret="5f" * 32), PLACE),
        (replace(US, secret=""), PLACE),
        (replace(US, deployment_id="k4wq7zt2ac"), PLACE),
    ],
)
def test_another_deployment_provider_or_account_does_not_own_it(who, place) -> None:
    assert labels.ours(who, LABEL, *place) is None


def test_nobody_else_can_sign_for_us() -> None:
    """Other secrets, our names: never the same MAC."""
    for number in range(200):
        forged = labels.make(replace(US, secret=f"guess {number}"), *PLACE, CODE, 3)
        assert labels.ours(US, forged, *PLACE) is None


@pytest.mark.parametrize(
    ("who", "code", "number"),
    [
        (replace(US, secret=""), CODE, 1),
        (replace(US, deployment_id=""), CODE, 1),
        (US, CODE[:-1], 1),
        (US, CODE.upper(), 1),
        (US, CODE, 0),
        (US, CODE, 10_000_000),
    ],
)
def test_no_label_without_identity_or_from_odd_parts(who, code, number) -> None:
    with pytest.raises(ValueError):
        labels.make(who, *PLACE, code, number)
