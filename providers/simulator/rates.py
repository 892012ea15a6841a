"""Rate limits as the marketplaces publish them: a least interval, or so many in a window."""

import time


class Rates:
    def __init__(self, clock: float) -> None:
        self.clock = clock
        self.last: dict[tuple[str, str], float] = {}
        self.windows: dict[str, tuple[float, int]] = {}  # identity -> (begun, calls)

    def too_soon(self, endpoint: str, identity: str, seconds: float) -> bool:
        """A refused call does not push the next one back."""
        now = time.monotonic()
        key = (endpoint, identity)
        if now - self.last.get(key, float("-inf")) < seconds / self.clock:
            return True
        self.last[key] = now
        return False

    def too_many(self, identity: str, most: int, seconds: float) -> bool:
        """More than `most` calls in a fixed window."""
        now = time.monotonic()
        begun, calls = self.windows.get(identity, (now, 0))
        if now - begun >= seconds / self.clock:
            begun, calls = now, 0
        self.windows[identity] = begun, calls + 1
        return calls >= most
