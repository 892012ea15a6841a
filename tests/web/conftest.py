import time

import pytest
from django.test import Client

from sessions import identity, live, tailer
from tests.factories import make_health, make_user

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def surroundings(settings) -> None:
    """Vast.ai configured; static files as they lie; passwords hashed cheaply."""
    settings.PROVIDERS = {"vastai": {"api_key": "canary-key", "base_url": "http://127.0.0.1:9"}}
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def installed(db) -> None:
    """As after the first start: an identity, and an account that Vast.ai has confirmed."""
    identity.ensure()
    make_health("vastai")


@pytest.fixture
def person(db):
    return make_user("ada")


@pytest.fixture
def page(client: Client, person) -> Client:
    client.force_login(person, backend=BACKEND)
    return client


@pytest.fixture
def stream(monkeypatch):
    """A stream of this test alone, driven by hand: nothing runs behind the test's back."""
    # PostgreSQL: it would close the connection that holds the test's own transaction.
    monkeypatch.setattr("channels.db.close_old_connections", lambda: None)
    fresh = tailer.Tailer(totals_at=time.monotonic() + 3600)
    monkeypatch.setattr(tailer, "tailer", fresh)
    monkeypatch.setattr(tailer, "ensure", lambda: None)
    live.watched.clear()
    fresh.changed()
    return fresh
