"""Name -> adapter, built from settings.PROVIDERS. To add a marketplace, add its class here."""

from functools import lru_cache

from django.conf import settings

from .base import Capabilities, Provider, ProviderError
from .tensordock import TensorDock
from .vastai import VastAI

ADAPTERS: dict[str, type[Provider]] = {"vastai": VastAI, "tensordock": TensorDock}


class NotConfigured(ProviderError):
    """Rows mention a provider whose credential is not, or no longer, in the environment."""


def names() -> list[str]:
    """The fully configured providers."""
    return [name for name in ADAPTERS if name in settings.PROVIDERS]


def get(name: str) -> Provider:
    """The adapter, one a process and configuration. Raises NotConfigured."""
    if name not in names():
        raise NotConfigured(f"{title(name)} is not configured")
    return _build(name, tuple(sorted(settings.PROVIDERS[name].items())))


@lru_cache(maxsize=16)
def _build(name: str, config: tuple[tuple[str, str], ...]) -> Provider:
    return ADAPTERS[name](**dict(config))


def title(name: str) -> str:
    return ADAPTERS[name].title if name in ADAPTERS else name


def capabilities(name: str) -> Capabilities:
    return ADAPTERS[name].capabilities if name in ADAPTERS else Capabilities()
