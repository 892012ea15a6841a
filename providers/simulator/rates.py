"""Rate limits as the marketplaces publish them: a least interval between two calls."""

import time


class Rates:
    def __init__(self, clock: float) -> None:
        self.clock = clock
        self.last: dict[tuple[str, str], float] = {}

    def too_soon(self, endpoint: str, identity: str, seconds: float) -> bool:
        """A refused call does not push the next one back."""
        now = time.monotonic()
        key = (endpoint, identity)
        if now - self.last.get(key, float("-inf")) < seconds / self.clock:
            return True
        self.last[key] = now
        return False
