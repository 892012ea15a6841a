"""What providers say, made safe to store, compare and show: text, numbers, ids, hosts."""

import ipaddress
import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal

INVISIBLE = dict.fromkeys(
    map(ord, "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
) | dict.fromkeys(
    (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))  # variation selectors
)
HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
HIGHEST_ID = 2**63
FIRST_YEAR, LAST_YEAR = 946_684_800, 4_102_444_800  # 2000 and 2100, Unix time


def clean(text: object, limit: int = 200) -> str:
    """One line of NFC text without control, bidi, zero-width or surrogate characters."""
    if not isinstance(text, str):
        return ""
    shorter = text[: limit * 4].translate(INVISIBLE)
    kept = "".join(_kept(character) for character in shorter)
    return " ".join(unicodedata.normalize("NFC", kept).split())[:limit].rstrip()


def _kept(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


def faithful(text: str, limit: int = 200) -> str:
    """Text unchanged, or cleaned and marked, so that a disguised label never equals a real one."""
    cleaned = clean(text, limit)
    return text if text == cleaned else "\N{REPLACEMENT CHARACTER}" + cleaned


def number(value: object, low: int | Decimal, high: int | Decimal) -> Decimal | None:
    """A finite JSON number in [low, high]; never text, never a bool."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    return Decimal(value) if low <= value <= high else None


def whole(value: object, low: int, high: int) -> int | None:
    """A JSON number in [low, high], its fraction cut off."""
    found = number(value, low, high)
    return None if found is None else int(found)


def numeric_id(value: object) -> str:
    """Digits of a positive 63-bit id, "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    if isinstance(value, int):
        return str(value) if 0 < value < HIGHEST_ID else ""
    return value if re.fullmatch(r"[1-9][0-9]{0,18}", value, re.ASCII) else ""


def instant(value: object) -> datetime | None:
    """Unix seconds to UTC; None outside 2000..2100."""
    seconds = number(value, FIRST_YEAR, LAST_YEAR)
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)


def host(value: object) -> str:
    """An address or a host name by its syntax alone, "" when it is neither."""
    if not isinstance(value, str) or len(value) > 253:
        return ""
    text = value.strip()
    if _is_address(text):
        return text
    labels = text.split(".")
    named = all(HOST_LABEL.fullmatch(label) for label in labels)
    return text if named and labels[-1][:1].isalpha() else ""  # 0x7f.1 and 127.1 are no names


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def port(value: object) -> int:
    """1..65535 from a number or digits, 0 when it is neither."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 1 <= value <= 65535 else 0
