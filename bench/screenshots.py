"""make screenshots: the pictures of the README, from a world of their own.

A simulator, a web server and a worker at the speed of life; two machines are rented, then the
pages are taken on a desk and on a phone, light and dark. Takes two or three minutes.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from bench.offers import say
from tests.browser import chromium, let_in
from tests.processes import ROOT, make_template
from tests.world import World

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2, "is_mobile": True, "has_touch": True,
}  # fmt: skip
PICTURES = {  # file -> page, window, colours
    "offers": ("offers", DESK, "light"),
    "offers-dark": ("offers", DESK, "dark"),
    "session": ("session", DESK, "light"),
    "session-dark": ("session", DESK, "dark"),
    "offers-phone": ("offers", PHONE, "light"),
    "session-phone-dark": ("session", PHONE, "dark"),
}
STILL = {"timezone_id": "UTC", "locale": "en-GB", "reduced_motion": "reduce"}


class Quiet(World):
    """Nobody else's machines in the account."""

    def seed_zoo(self, provider: str) -> None:
        self.zoo = []


@contextmanager
def world() -> Iterator[tuple[World, str]]:
    """With one machine on each marketplace; and the address of the first session's page."""
    with tempfile.TemporaryDirectory() as folder:
        template = make_template(Path(folder))
        with Quiet(Path(folder) / "w", template, clock=1) as started:
            started.start()
            wanted = (("RTX 4090", "vastai"), ("RTX A6000", "tensordock"))
            offers = [started.offers(gpu, 1, provider)[0] for gpu, provider in wanted]
            sessions = [started.launch(offer, max_price_per_hour="1") for offer in offers]
            started.wait_states(sessions, "running", seconds=600)
            yield started, f"/sessions/{UUID(sessions[0])}/"


def take(started: World, path: str, file: Path, options: dict[str, object]) -> None:
    with chromium(f"127.0.0.1:{started.port}", **options, **STILL) as watched:
        let_in(watched.page.context, started)
        watched.page.goto(started.base + path)
        watched.page.locator("#connection", has_text="live").wait_for(state="attached")
        watched.page.screenshot(path=file)
    say(f"  {file}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    with world() as (started, session):
        paths = {"offers": "/?gpu=RTX+4090&disk=100", "session": session}
        for name, (page, window, scheme) in PICTURES.items():
            options = window | {"color_scheme": scheme}
            take(started, paths[page], folder / f"{name}.png", options)


if __name__ == "__main__":
    main()
