"""Nothing answers strangers, nothing changes by looking, and every answer carries its headers."""

import logging
from collections.abc import Iterator
from urllib.parse import quote
from uuid import UUID

import pytest
from django.apps import apps
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.factories import make_attempt, make_key, make_offer, make_session, make_user

pytestmark = pytest.mark.django_db
OPEN = {"login/", "login/<uid>/<token>/", "healthz", "readyz", "admin/login/"}
SAMPLES = {
    "pk": "11111111-1111-4111-8111-111111111111",
    "provider": "vastai",
    "offer_id": "77",
    "gpu": "RTX 3090",
    "uid": "MQ",
    "token": "x-y",
    "id": "1",
    "object_id": "1",
    "app_label": "auth",
    "content_type_id": "1",
    "url": "nothing",
}


def routes(patterns=None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns or get_resolver().url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route, pattern


def path_of(route: str, pattern: URLPattern) -> str:
    """A path that this route matches, with our sample rows in it."""
    path = route.replace("^", "").replace("$", "").replace("\\Z", "")
    for name, converter in pattern.pattern.converters.items():
        kind = type(converter).__name__.removesuffix("Converter").lower()
        sample = "1" if kind == "int" else SAMPLES[name]
        for written in (f"<{kind}:{name}>", f"<{name}>"):
            path = path.replace(written, sample)
    if "(?P<app_label>" in path:
        path = path[: path.index("(?P<")] + "auth/"
    if "(?P<url>" in path:
        path = path[: path.index("(?P<")] + "nothing"
    return "/" + path


@pytest.fixture
def rows(installed, person):
    make_offer(offer_id="77")
    make_key(person, pk=1)
    session = make_session("running", id=UUID(SAMPLES["pk"]), owner=person)
    make_attempt(session, resolution="created", instance_id="1")


def everything() -> list:
    """Every row of ours and of the accounts, as values."""
    models = [m for m in apps.get_models() if m._meta.app_label not in ("sessions", "axes")]
    return [(m._meta.label, list(m.objects.order_by("pk").values())) for m in models]


def test_the_walk_knows_the_pages() -> None:
    known = {route for route, _ in routes()}
    assert {"", "offers/", "keys/", "sessions/", "providers/", *OPEN} <= known
    assert len(known) > 60  # the administration is in it


def test_strangers_get_no_page_but_the_few_that_are_meant_for_them(rows) -> None:
    open_to_all = set()
    for route, pattern in routes():
        for method in ("get", "post", "put", "delete"):
            client = Client(raise_request_exception=False)
            answer = getattr(client, method)(path_of(route, pattern))
            if answer.status_code == 302 and "/login/" in answer["Location"]:
                continue
            open_to_all.add(route)
            if route not in OPEN:
                pytest.fail(f"{method} /{route} answers a stranger: {answer.status_code}")
    assert open_to_all == OPEN


def test_looking_changes_nothing(rows, person) -> None:
    admin = make_user("boss", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    before = everything()
    for route, pattern in routes():
        for headers in ({}, {"HX-Request": "true"}):
            answer = client.get(path_of(route, pattern), headers=headers)
            assert answer.status_code < 500 or route == "readyz", route
            if hasattr(answer, "streaming_content"):
                b"".join(answer.streaming_content)
    assert everything() == before


def test_pages_of_the_application_answer_their_owner(page, rows) -> None:
    for path in ("/", "/offers/", "/launch/vastai/77/", "/keys/", "/providers/", "/password/"):
        assert page.get(path).status_code == 200, path
    assert page.get("/admin/")["Location"].startswith("/admin/login/")


def test_a_form_without_the_token_is_refused_with_a_page(person, rows) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    for path in ("/keys/", "/launch/vastai/77/", "/keys/1/delete/", "/logout/", "/password/"):
        answer = client.post(path)
        assert answer.status_code == 403, path
        assert "This page was too old" in answer.content.decode()


def test_every_answer_has_its_headers(page, rows) -> None:
    for path in ("/", "/keys/", "/nothing-here/", "/login/MQ/x-y/"):
        answer = page.get(path)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "no-store" in answer["Cache-Control"]
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in answer["Permissions-Policy"]
        assert "HX-Request" in answer["Vary"]
        assert len(answer["X-Request-ID"]) == 16


def test_what_strangers_send_forges_no_line_of_the_log(db, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    client, forged = Client(raise_request_exception=False), "\r\nERROR forged\x1b[31m"
    client.get(f"/nothing/{quote(forged)}")
    client.get(f"/login/?next={quote(forged)}")
    client.post("/login/", {"username": f"ada{forged}", "password": forged})
    client.get("/login/", headers={"Host": "evil.example.org", "X-Request-ID": forged})
    lines = [record.getMessage() for record in caplog.records]
    assert any("/nothing/" in line for line in lines) and any("evil" in line for line in lines)
    assert not [line for line in lines if set(line) & set("\r\n\x1b")]


def test_request_ids_of_a_proxy_are_kept_when_they_look_like_one(page, installed) -> None:
    good = page.get("/", headers={"X-Request-ID": "3f2c9a10-aa"})
    assert good["X-Request-ID"] == "3f2c9a10-aa"
    bad = page.get("/", headers={"X-Request-ID": "evil\tid <script>"})
    assert "evil" not in bad["X-Request-ID"]


def test_pages_have_no_inline_script_or_style_and_carry_the_token_once(page, rows) -> None:
    for path in ("/", "/launch/vastai/77/", "/keys/", "/providers/", "/sessions/"):
        text = page.get(path).content.decode()
        assert "<style" not in text and " style=" not in text and "javascript:" not in text
        assert "hx-on" not in text and " onclick" not in text
        assert text.count("<script") == text.count("<script src=") + text.count(
            '<script type="module" src='
        )
        assert text.count("X-CSRFToken") == 1


def test_the_simulator_and_doubts_are_announced_on_every_page(client, page, rows, settings) -> None:
    settings.SIMULATED = True
    settings.CONFIG_PROBLEMS = ["TENSORDOCK_API_KEY is not a variable of gpubroker."]
    for path in ("/", "/keys/", "/providers/", "/launch/vastai/77/", "/nothing/"):
        text = page.get(path).content.decode()
        assert "Simulated marketplaces" in text and "TENSORDOCK_API_KEY is not" in text
    stranger = Client().get("/login/").content.decode()
    assert "Simulated marketplaces" in stranger and "TENSORDOCK" not in stranger


def test_a_database_that_is_not_ours_is_announced(page, db) -> None:
    assert "Read-only:" in page.get("/").content.decode()
