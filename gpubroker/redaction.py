"""Secrets never reach the log: the filter on its handler (settings.LOGGING)."""

import logging
import re
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote

from django.conf import settings

MASK = "[secret]"
SHORTEST = 6  # masking shorter values would garble ordinary text
PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{6,}"),
    re.compile(r"(?i)(?<=basic )[\w+/=-]{12,}"),
    re.compile(
        r"""(?ix) (?: (?<=api_key=) | (?<=api_key":\ ") | (?<=api_key':\ ') | (?<=apikey=)
        | (?<=api_token=) | (?<=token=) | (?<=password=) ) [^\s&"',}\]]+"""
    ),
    re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"),  # user:password in an address
    re.compile(r"(?<=/login/)[\w-]+/[\w-]{20,}"),  # one-time sign-in links
)


class Redact(logging.Filter):
    """Masks known secret values, and whatever looks like one, in all that a record prints."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(_message(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redacted(record.exc_text)
        if record.stack_info:
            record.stack_info = redacted(record.stack_info)
        return True


def redacted(text: str) -> str:
    for value in live_secrets():
        text = text.replace(value, MASK)
    for pattern in PATTERNS:
        text = pattern.sub(MASK, text)
    return text


@cache
def live_secrets() -> tuple[str, ...]:
    """Every secret of the configuration, longest first, also as it looks inside an address."""
    values = {value for value in _secrets() if len(value) >= SHORTEST}
    values |= {quote(value, safe="") for value in values}
    return tuple(sorted(values, key=len, reverse=True))


def _secrets() -> Iterator[str]:
    yield settings.SECRET_KEY
    yield from settings.ENCRYPTION_KEYS
    for credentials in settings.PROVIDERS.values():
        yield credentials["api_key"]
    for database in settings.DATABASES.values():
        yield str(database.get("PASSWORD") or "")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError) as error:  # a wrong format string must not hide it
        return f"{record.msg} {record.args!r} ({error})"
