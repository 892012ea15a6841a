import pytest

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


@pytest.mark.parametrize("text", ["", "hello", "ssh-ed25519", "ssh-ed25519 !!!!", "x" * 20_000])
def test_what_is_no_key_is_refused(page, text: str) -> None:
    assert page.post("/keys/", {"public_key": text}).status_code == 422
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
