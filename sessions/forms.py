"""What people type: checked here for shape, in asks.py for sense."""

import re
from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.auth.models import AbstractUser
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db.models import QuerySet

from providers import registry
from providers.models import Offer
from providers.usage import HOURS, MAX_HOURS

from . import keys
from .asks import Order
from .idle import IDLE_LOAD, MAX_MINUTES, MIN_MINUTES
from .models import SSHKey
from .rules import CENT_OF_A_CENT

HEADROOM = Decimal("1.05")
IDLE_HELP = (
    "Empty: never. You are warned 10 minutes before, and can keep it running with one click."
)
IDLE_MEANS = (
    f"Every look, one a minute, finds each GPU at most {IDLE_LOAD} % busy and its memory in use "
    "unchanged. Downloads, the CPU and logins do not count as use, and short bursts between two "
    "looks may be missed. While SSH fails nothing counts as idle."
)
MOST_KEYS = 50  # of one person
IDLE_RANGE = f"Between {MIN_MINUTES} and {MAX_MINUTES} minutes, or empty for never."
FALLBACKS = [
    ("gpu", "Try the next cheapest with the same GPU"),
    ("memory", "Try any GPU with the same memory or more"),
    ("none", "Give up; only this offer will do"),
]


class KeyChoices(forms.ModelMultipleChoiceField):
    def clean(self, value: object) -> QuerySet[SSHKey]:
        try:
            return super().clean(value)
        except OverflowError:  # SQLite has no such number
            raise forms.ValidationError("That is not one of the available choices.") from None

    def label_from_instance(self, key: SSHKey) -> str:
        return f"{key.name} · {key.fingerprint.removeprefix('SHA256:')[:8]}…"


class KeyArea(forms.Textarea):
    """Shows again what was typed, unless it was a private key."""

    def __init__(self, rows: int) -> None:
        hint = "ssh-ed25519 AAAA… you@laptop"
        super().__init__(attrs={"rows": rows, "spellcheck": "false", "placeholder": hint})

    def format_value(self, value: str | None) -> str | None:
        return "" if keys.PRIVATE.search(value or "") else super().format_value(value)


def focus_first_error(form: forms.Form) -> None:
    """In the order of the page."""
    name = next((name for name in form.fields if name in form.errors), None)
    if name:
        form.fields[name].widget.attrs["autofocus"] = True


class KeyForm(forms.Form):
    """One public key, pasted."""

    public_key = forms.CharField(
        label="Public key",
        max_length=16_000,
        widget=KeyArea(rows=3),
    )
    name = forms.CharField(
        label="Name", max_length=80, required=False, help_text="Empty = the key’s own comment."
    )

    def __init__(self, *args, owner: AbstractUser, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner

    def clean_public_key(self) -> keys.PublicKey:
        key = parsed(self.cleaned_data["public_key"])
        if SSHKey.objects.filter(owner=self.owner, fingerprint=key.fingerprint).exists():
            raise forms.ValidationError("You have registered this key already.")
        require_room(self.owner)
        return key

    def save(self) -> SSHKey:
        key = self.cleaned_data["public_key"]
        return register(self.owner, key, self.cleaned_data["name"])


def _who_ends(provider: str) -> str:
    """I10: what happens at the end when nobody is there to destroy the machine."""
    title = registry.title(provider)
    if registry.capabilities(provider).self_destroy:
        return f"A {title} machine destroys itself half an hour later, even if gpubroker is off."
    return f"gpubroker must be running then: a {title} machine cannot destroy itself."


class Script(forms.CharField):
    """Lines end as on the machine, so that its length is counted as there."""

    def to_python(self, value: object) -> str:
        return super().to_python(value).replace("\r\n", "\n")


class KeyBox(forms.Form):
    """Which keys a machine gets: own ones, one pasted here, a fresh one."""

    public_keys = KeyChoices(
        label="Your keys",
        queryset=SSHKey.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    generate_key = forms.BooleanField(label="Generate one for me", required=False)
    new_key = forms.CharField(
        label="Another public key",
        max_length=16_000,
        required=False,
        widget=KeyArea(rows=2),
    )

    def __init__(self, *args, owner: AbstractUser, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
        own = SSHKey.objects.filter(owner=owner).order_by("name", "pk")
        self.fields["public_keys"].queryset = own
        self.initial.setdefault("public_keys", [key.pk for key in own])
        self.initial.setdefault("generate_key", not own)

    def clean_new_key(self) -> keys.PublicKey | None:
        text = self.cleaned_data["new_key"]
        if not text:
            return None
        key = parsed(text)
        if not SSHKey.objects.filter(owner=self.owner, fingerprint=key.fingerprint).exists():
            require_room(self.owner)
        return key

    def register_new_key(self) -> SSHKey | None:
        new = self.cleaned_data["new_key"]
        return register(self.owner, new) if new else None


def worded(field: forms.IntegerField, words: str) -> None:
    """What it says to a number outside of its limits."""
    for limit in field.validators:
        limit.message = words


class IdleMinutes(forms.IntegerField):
    """Empty = never. The datalist `idle-choices` stands on the page."""

    means = IDLE_MEANS

    def __init__(self) -> None:
        super().__init__(
            label="Stop when idle for, minutes",
            required=False,
            min_value=MIN_MINUTES,
            max_value=MAX_MINUTES,
            widget=forms.NumberInput(attrs={"list": "idle-choices", "placeholder": "never"}),
            help_text=IDLE_HELP,
            error_messages={"invalid": IDLE_RANGE},
        )
        worded(self, IDLE_RANGE)


class IdleForm(forms.Form):
    """The same, on the page of a session."""

    idle_minutes = IdleMinutes()


class LaunchForm(KeyBox):
    """All terms of a rental. Money in USD per hour with the disk."""

    field_order = ("image", "disk_gb", "startup_script", *KeyBox.base_fields)  # as on the page

    idempotency_key = forms.UUIDField(widget=forms.HiddenInput)
    image = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "off"}),
    )
    disk_gb = forms.IntegerField(label="Disk, GB")
    hours = forms.IntegerField(
        label="Ends after, hours", min_value=1, max_value=MAX_HOURS, initial=HOURS
    )
    max_price_per_hour = forms.DecimalField(
        label="Pay at most, $ per hour",
        min_value=CENT_OF_A_CENT,
        max_value=9999,
        max_digits=10,
        decimal_places=6,
    )
    fallback = forms.ChoiceField(
        label="If this offer is gone", choices=FALLBACKS, initial="gpu", widget=forms.RadioSelect
    )
    verified_only = forms.BooleanField(label="verified hosts only", required=False)
    same_country = forms.BooleanField(label="in the same country", required=False)
    min_reliability = forms.DecimalField(
        label="at least so reliable, %", min_value=0, max_value=100, required=False
    )
    worded(hours, f"1 to {MAX_HOURS} hours.")
    worded(max_price_per_hour, "Above $0, and at most $9,999 per hour.")
    worded(min_reliability, "0 to 100 %.")
    idle_minutes = IdleMinutes()
    startup_script = Script(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
    )

    def __init__(self, *args, owner: AbstractUser, offer: Offer, **kwargs) -> None:
        super().__init__(*args, owner=owner, **kwargs)
        self.offer = offer
        limits = registry.capabilities(offer.provider)
        self.initial.setdefault("idempotency_key", uuid4())
        self.initial.setdefault("image", limits.default_image)
        self.fields["hours"].help_text = _who_ends(offer.provider)
        self._bound("disk_gb", limits.offer_min_disk_gb, offer.disk_gb_max)
        self.fields["startup_script"].widget.attrs["data-count"] = limits.script_max_chars
        self.fields["startup_script"].validators.append(MaxLengthValidator(limits.script_max_chars))
        self.fields["startup_script"].help_text = (
            f"Runs once as root when the machine starts; at most {limits.script_max_chars} "
            "characters. The host can read it: no passwords."
        )

    def _bound(self, name: str, low: int, high: int) -> None:
        field = self.fields[name]
        field.validators += [MinValueValidator(low), MaxValueValidator(high)]
        worded(field, f"{low:,} to {high:,} GB.")
        field.widget.attrs |= {"min": low, "max": high}
        field.help_text = f"{low:,} to {high:,}. It cannot be changed later."

    def clean_image(self) -> str:
        image = self.cleaned_data["image"]
        limits = registry.capabilities(self.offer.provider)
        if not re.fullmatch(limits.image_pattern, image, re.ASCII):
            example = limits.default_image
            raise forms.ValidationError(f"This is not an image name such as {example}.")
        return image

    def clean_startup_script(self) -> str:
        script = self.cleaned_data["startup_script"]
        return script if script.strip() else ""

    def clean(self) -> dict:
        data = super().clean()
        wants_none = not (data.get("public_keys") or data.get("generate_key"))
        if wants_none and not data.get("new_key") and "new_key" not in self.errors:
            self.add_error("public_keys", "Choose a key, paste one, or let one be generated.")
        return data

    def order(self) -> Order:
        data = self.cleaned_data
        lines = [key.public_key for key in data["public_keys"]]
        if data["new_key"] and data["new_key"].line not in lines:
            lines.append(data["new_key"].line)
        return Order(
            idempotency_key=str(data["idempotency_key"]),
            provider=self.offer.provider,
            offer_id=self.offer.offer_id,
            image=data["image"],
            disk_gb=data["disk_gb"],
            hours=data["hours"],
            max_price_per_hour=data["max_price_per_hour"],
            fallback=data["fallback"],
            requirements=requirements(data, self.offer),
            startup_script=data["startup_script"],
            public_keys=lines,
            generate_key=data["generate_key"],
            idle_minutes=data["idle_minutes"],
        )


def requirements(data: Mapping[str, Any], offer: Offer) -> dict[str, object]:
    """What the next offer must be, from {"verified_only", "same_country", "min_reliability"}."""
    wanted: dict[str, object] = {}
    if data["verified_only"]:
        wanted["verified_only"] = True
    if data["same_country"] and offer.country:
        wanted["countries"] = [offer.country]
    if data["min_reliability"]:
        wanted["min_reliability"] = float(data["min_reliability"] / 100)  # 99.9 is 0.999
    return wanted


def parsed(text: str) -> keys.PublicKey:
    try:
        return keys.parse_public(text)
    except keys.KeyRefused as error:
        raise forms.ValidationError(str(error)) from error


def require_room(owner: AbstractUser) -> None:
    """Raises ValidationError when this person has as many keys as one may have."""
    if SSHKey.objects.filter(owner=owner).count() >= MOST_KEYS:
        raise forms.ValidationError(
            f"You have {MOST_KEYS} keys, the most for one person. Remove one on the Keys page."
        )


def register(owner: AbstractUser, key: keys.PublicKey, name: str = "") -> SSHKey:
    """The row of this key; an existing one stays as it is."""
    row, _ = SSHKey.objects.get_or_create(
        owner=owner,
        fingerprint=key.fingerprint,
        defaults={"name": (name or key.comment or key.kind)[:80], "public_key": key.line},
    )
    return row


def suggested_ceiling(price_per_hour: Decimal) -> Decimal:
    """A little headroom, so that the next offer may cost a little more."""
    return (price_per_hour * HEADROOM).quantize(CENT_OF_A_CENT, ROUND_UP)
