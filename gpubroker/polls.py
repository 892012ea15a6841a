"""What polls of `/readyz` leave in the log: a line when something changes, and none for each."""

import logging
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Told:
    """What the log says of the parts that fail; each web process tells its own."""

    def __init__(self) -> None:
        self.failing: set[str] = set()

    def hear(self, parts: Mapping[str, Mapping[str, object]]) -> None:
        """Parts by name: "ok", and perhaps a "detail"."""
        failing = {name for name, part in parts.items() if not part["ok"]}
        if failing and failing != self.failing:
            why = "; ".join(_why(name, parts[name]) for name in sorted(failing))
            logger.warning("not ready: %s", why)
        elif self.failing and not failing:
            logger.warning("ready again")
        self.failing = failing


def _why(name: str, part: Mapping[str, object]) -> str:
    detail = part.get("detail")
    return f"{name} ({detail})" if detail else name


told = Told()


class NoPolls(logging.Filter):
    """Drops Django's own line for each poll that was answered with 503."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(getattr(record, "request", None), "path", "") != "/readyz"
