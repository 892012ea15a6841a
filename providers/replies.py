"""What every marketplace's answers have in common: a JSON object, and words for people."""

from collections.abc import Mapping

from . import clean
from .base import BadResponse
from .http import Answer

Json = Mapping[str, object]
UNEXPLAINED = "without an explanation"  # then the words are ours


def as_object(answer: Answer) -> Json:
    """The body when it is a JSON object, else nothing. Never raises."""
    try:
        found = answer.json
    except BadResponse:
        return {}
    return found if isinstance(found, dict) else {}


def words(answer: Answer) -> str:
    """Error code and text, cleaned, to read and to match."""
    body = as_object(answer)
    parts = [clean.clean(body.get(key), 300) for key in ("error", "msg", "message")]
    return ": ".join(dict.fromkeys(part for part in parts if part))


def plain(answer: Answer) -> str:
    """A short plain text, as some refusals are; no page of a proxy."""
    text = answer.body[:300].decode(errors="replace").strip()
    return "" if text[:1] in ("<", "{", "[") else clean.clean(text)


def message(answer: Answer) -> str:
    return (words(answer) or plain(answer) or f"HTTP {answer.status} {UNEXPLAINED}")[:500]
