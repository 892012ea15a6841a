"""Signing in by one-time link and by password."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from gpubroker import accounts
from gpubroker.accounts import signin_path
from tests.factories import make_user

pytestmark = pytest.mark.django_db
STRONG = "correct horse battery 9"


def signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_opening_the_link_changes_nothing_and_the_button_signs_in_once(client, person) -> None:
    path = signin_path(person)
    shown = client.get(path)
    assert shown.status_code == 200 and "Sign in" in shown.content.decode()
    assert not signed_in(client) and get_user_model().objects.get().last_login is None
    assert client.post(path)["Location"] == "/"
    assert signed_in(client)
    for method in (Client().get, Client().post):
        answer = method(path)
        assert answer.status_code == 410 and "no longer works" in answer.content.decode()


def test_a_sign_in_gets_a_new_session_id(client, person) -> None:
    client.session["x"] = 1
    before = client.session.session_key
    client.post(signin_path(person))
    assert client.session.session_key != before


def test_only_one_of_two_simultaneous_clicks_signs_in(person) -> None:
    first, second = (get_user_model().objects.get(pk=person.pk) for _ in range(2))
    assert accounts._use_up(first) and not accounts._use_up(second)


def test_two_links_of_one_second_are_two_links(client, person) -> None:
    client.post(signin_path(person))
    person.refresh_from_db()
    again = signin_path(person)
    other = Client()
    other.post(again)
    assert signed_in(other)
    assert Client().post(again).status_code == 410


def test_links_die_with_time_a_password_and_the_account(client, person, monkeypatch) -> None:
    path = signin_path(person)
    late = timezone.now().replace(tzinfo=None) + timedelta(hours=25)
    with monkeypatch.context() as patch:
        patch.setattr(accounts.tokens, "_now", lambda: late)
        assert client.get(path).status_code == 410
    assert client.get(path).status_code == 200
    person.is_active = False
    person.save()
    assert client.post(path).status_code == 410
    person.is_active = True
    person.set_password(STRONG)
    person.save()
    assert client.post(path).status_code == 410
    assert not signed_in(client)


@pytest.mark.parametrize("uid", ["MQ", "!!", "_____", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_made_up_links_are_refused(client, person, uid: str) -> None:
    token = signin_path(make_user()).split("/")[-2]
    for wrong in (token, "x", "x-y", "-"):
        assert client.post(f"/login/{uid}/{wrong}/").status_code == 410
    assert not signed_in(client)


def test_who_came_by_link_sets_a_password_without_an_old_one(client) -> None:
    person = make_user("grace")
    client.post(signin_path(person))
    assert "Set a password" in client.get("/password/").content.decode()
    assert client.post("/password/", _new("123")).status_code == 422
    assert client.post("/password/", _new(STRONG))["Location"] == "/"
    assert signed_in(client)
    other = Client()
    assert other.post("/login/", {"username": "grace", "password": STRONG})["Location"] == "/"


def test_who_has_a_password_must_know_it_and_other_browsers_are_signed_out() -> None:
    make_user("grace", password=STRONG)
    mine, other = Client(), Client()
    for client in (mine, other):
        client.post("/login/", {"username": "grace", "password": STRONG})
    assert "old_password" in mine.get("/password/").content.decode()
    assert mine.post("/password/", _new(STRONG + "1")).status_code == 422
    answer = mine.post("/password/", _new(STRONG + "1") | {"old_password": STRONG})
    assert answer["Location"] == "/"
    assert mine.get("/").status_code == 200
    assert other.get("/")["Location"] == "/login/?next=/"


def test_next_stays_on_this_site() -> None:
    make_user("grace", password=STRONG)
    for there, expected in (("/keys/", "/keys/"), ("https://evil.example.org/", "/")):
        data = {"username": "grace", "password": STRONG, "next": there}
        assert Client().post("/login/", data)["Location"] == expected


def test_a_wrong_password_does_not_tell_who_exists() -> None:
    make_user("grace", password=STRONG)
    make_user("link-only")

    def answer(name: str) -> tuple[int, str]:
        refused = Client().post("/login/", {"username": name, "password": "wrong"})
        text = re.sub(r"[A-Za-z0-9]{64}|datetime=\"[^\"]*\"|\d\d:\d\d(:\d\d)?", "", _main(refused))
        return refused.status_code, text.replace(name, "")

    assert answer("grace") == answer("link-only") == answer("nobody")
    assert "password" in answer("nobody")[1]


def test_too_many_wrong_passwords_close_the_door() -> None:
    make_user("grace", password=STRONG)
    client = Client()
    answers = [
        client.post("/login/", {"username": "grace", "password": f"wrong{n}"}) for n in range(11)
    ]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert "closed for an hour" in answers[-1].content.decode()
    right = client.post("/login/", {"username": "grace", "password": STRONG})
    assert right.status_code == 429 and not signed_in(client)
    assert client.post(signin_path(get_user_model().objects.get()))["Location"] == "/"


def test_signing_out_is_a_post(page) -> None:
    assert page.get("/logout/").status_code == 405
    page.post("/logout/")
    assert not signed_in(page)


def test_a_fragment_request_of_someone_signed_out_loads_the_whole_page(client, db) -> None:
    here = {"HX-Request": "true", "HX-Current-URL": "http://testserver/keys/"}
    answer = client.get("/", headers=here)
    assert answer.status_code == 204 and answer["HX-Redirect"] == "http://testserver/keys/"
    there = {"HX-Request": "true", "HX-Current-URL": "https://evil.example.org/"}
    assert client.get("/", headers=there)["HX-Redirect"] == "/login/"


def _main(answer) -> str:
    """What the page says, without the instant at which it was made."""
    return answer.content.decode().partition("<main")[2].partition("</main>")[0]


def _new(password: str) -> dict[str, str]:
    return {"new_password1": password, "new_password2": password}
