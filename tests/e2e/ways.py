"""The ways through a page: a mouse, a finger or a keyboard alone; wide or narrow; light or dark."""

from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, expect

SIZES = {"1440": {"width": 1440, "height": 900}, "390": {"width": 390, "height": 844}}
PHONE = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
# What a person who only has a keyboard sees of where they are; null at the end of the page.
SEEN = """() => {
    const here = document.activeElement;
    if (here === document.body) return null;
    const drawn = here.matches(".segments input") ? here.nextElementSibling : here;
    const outlined = style => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const ring = outlined(getComputedStyle(drawn)) || outlined(getComputedStyle(drawn, "::after"));
    const box = drawn.getBoundingClientRect();
    const inside = box.bottom > 0 && box.top < innerHeight && box.width > 0;
    return {what: here.outerHTML.slice(0, 120), ring, inside};
}"""


def tab_to(page: Page, wanted: Locator, key: str = "Tab", most: int = 80) -> None:
    """Key by key; at each stop, where the focus is can be seen.

    Each look is one step in the page: an update may replace any element between two of them.
    """
    expect(wanted).to_be_visible()
    focused = wanted.and_(page.locator(":focus"))
    stops = []
    for _ in range(most):
        page.keyboard.press(key)
        seen = page.evaluate(SEEN)
        assert seen is None or (seen["ring"] and seen["inside"]), seen
        if focused.count():
            return
        stops.append(seen and seen["what"])
    raise AssertionError(f"{wanted} was not reached by {most} times {key}: {stops}")


@dataclass(frozen=True, kw_only=True)
class Way:
    hand: Literal["mouse", "touch", "keyboard"]
    size: Literal["1440", "390"]
    scheme: Literal["light", "dark"]

    def __str__(self) -> str:
        return f"{self.hand}-{self.size}-{self.scheme}"

    @property
    def narrow(self) -> bool:
        return self.size == "390"

    @property
    def context(self) -> dict[str, object]:
        """Options of a Playwright context."""
        phone = PHONE if self.hand == "touch" else {}
        return {"viewport": SIZES[self.size], "color_scheme": self.scheme} | phone

    def press(self, wanted: Locator, key: str = "Enter") -> None:
        if self.hand == "keyboard":
            tab_to(wanted.page, wanted)
            wanted.page.keyboard.press(key)
        elif self.hand == "touch":
            wanted.tap()
        else:
            wanted.click()

    def mark(self, box: Locator) -> None:
        """A checkbox, for the other state."""
        self.press(box, "Space")

    def write(self, field: Locator, text: str) -> None:
        """Into an empty field, or in place of what a keyboard finds selected there."""
        if self.hand == "keyboard":
            tab_to(field.page, field)
        else:
            self.press(field)
            field.select_text()
        field.page.keyboard.type(text)


def way(name: str) -> Way:
    """From its name, as "keyboard-390-dark"."""
    hand, size, scheme = name.split("-")
    return Way(hand=hand, size=size, scheme=scheme)  # type: ignore[arg-type]


def ways(*names: str) -> pytest.MarkDecorator:
    """The test once in each, as its argument `way`."""
    return pytest.mark.parametrize("way", [way(name) for name in names], ids=names)
