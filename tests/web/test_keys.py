import re

import pytest

from sessions import forms
from sessions.keys import generate
from sessions.models import SSHKey
from tests.factories import PUBLIC_KEY, make_key, make_user

pytestmark = pytest.mark.django_db


def test_a_key_is_added_normalised_and_named_by_its_comment(page, person) -> None:
    answer = page.post("/keys/", {"public_key": f"  {PUBLIC_KEY} ada@laptop\r\n", "name": ""})
    assert answer["Location"] == "/keys/"
    key = SSHKey.objects.get()
    assert (key.owner, key.name, key.public_key) == (person, "ada@laptop", PUBLIC_KEY)
    text = page.get("/keys/").content.decode()
    assert "ada@laptop" in text and key.fingerprint in text


def test_the_same_key_twice_is_refused_for_one_person_and_fine_for_two(page) -> None:
    page.post("/keys/", {"public_key": PUBLIC_KEY})
    again = page.post("/keys/", {"public_key": PUBLIC_KEY, "name": "other"})
    assert again.status_code == 422 and "already" in again.content.decode()
    page.force_login(make_user(), backend="django.contrib.auth.backends.ModelBackend")
    assert page.post("/keys/", {"public_key": PUBLIC_KEY}).status_code == 302
    assert SSHKey.objects.count() == 2


def test_one_person_has_so_many_keys_and_no_more(page, person, monkeypatch) -> None:
    monkeypatch.setattr(forms, "MOST_KEYS", 2)
    make_key(make_user())  # that of another person does not count
    page.post("/keys/", {"public_key": PUBLIC_KEY})
    make_key(person, fingerprint="SHA256:other")
    other = {"public_key": generate().public_line, "new_key": generate().public_line}
    for url in ("/keys/", "/keys/paste/"):
        refused = page.post(url, other)
        assert refused.status_code == 422
        assert "You have 2 keys, the most for one person." in refused.content.decode()
    again = page.post("/keys/paste/", {"new_key": PUBLIC_KEY})  # it is registered already
    assert again.status_code == 200
    assert SSHKey.objects.filter(owner=person).count() == 2


@pytest.mark.parametrize("text", ["", "hello", "ssh-ed25519", "ssh-ed25519 !!!!", "x" * 20_000])
def test_what_is_no_key_is_refused(page, text: str) -> None:
    answer = page.post("/keys/", {"public_key": text})
    assert answer.status_code == 422
    assert re.search(r'<textarea[^>]* name="public_key"[^>]* autofocus', answer.content.decode())
    assert not SSHKey.objects.exists()


def test_a_private_key_is_named_as_such(page) -> None:
    pasted = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
    answer = page.post("/keys/", {"public_key": pasted})
    assert answer.status_code == 422 and "rivate" in answer.content.decode()


def test_only_the_owner_sees_and_removes_a_key(page, person) -> None:
    own, foreign = make_key(person, name="mine"), make_key(make_user(), name="not-mine")
    text = page.get("/keys/").content.decode()
    assert "mine" in text and "not-mine" not in text
    assert page.post(f"/keys/{foreign.pk}/delete/").status_code == 404
    assert page.get(f"/keys/{own.pk}/delete/").status_code == 405
    assert page.post(f"/keys/{own.pk}/delete/").status_code == 302
    assert list(SSHKey.objects.all()) == [foreign]


CHOSEN = r'<input type="checkbox" name="public_keys" value="{}"[^>]* checked'


def test_a_key_pasted_in_the_launch_form_is_registered_and_chosen(page, person) -> None:
    chosen, left = make_key(person, name="chosen"), make_key(person, name="left out")
    data = {"public_keys": [chosen.pk], "generate_key": "on", "new_key": f"{PUBLIC_KEY} ada@laptop"}
    text = page.post("/keys/paste/", data).content.decode()
    new = SSHKey.objects.get(name="ada@laptop")
    assert new.owner == person and "“ada@laptop” is registered and chosen" in text
    ticked = [bool(re.search(CHOSEN.format(key.pk), text)) for key in (chosen, new, left)]
    assert ticked == [True, True, False]
    assert re.search(r'name="generate_key"[^>]* checked', text)
    again = page.post("/keys/paste/", {"new_key": PUBLIC_KEY}).content.decode()
    assert re.search(CHOSEN.format(new.pk), again)
    assert SSHKey.objects.filter(name="ada@laptop").count() == 1


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0Y2Fu"])
def test_what_is_no_public_key_stays_out_of_the_launch_form(page, person, text: str) -> None:
    kept = make_key(person)
    answer = page.post("/keys/paste/", {"public_keys": [kept.pk], "new_key": text})
    body = answer.content.decode()
    assert answer.status_code == 422 and SSHKey.objects.get() == kept
    assert "c2VjcmV0Y2Fu" not in body and 'id="id_new_key_error"' in body
    assert re.search(CHOSEN.format(kept.pk), body)
    if "PRIVATE" in text:
        assert "never paste it anywhere" in body


def test_keys_of_others_are_not_chosen(page) -> None:
    foreign = make_key(make_user(), name="not-mine")
    answer = page.post("/keys/paste/", {"public_keys": [foreign.pk], "new_key": PUBLIC_KEY})
    assert answer.status_code == 422 and "not-mine" not in answer.content.decode()
    assert page.get("/keys/paste/").status_code == 405
