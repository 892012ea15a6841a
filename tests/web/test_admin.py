"""The administration: superusers look, nobody changes, secrets stay out."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from sessions import audit
from sessions.admin import ReadOnly
from sessions.models import AuditEvent, Deployment, Session
from tests.factories import make_attempt, make_session, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain_static(settings):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}


@pytest.fixture
def root(client):
    client.force_login(make_user(is_superuser=True, is_staff=True))
    return client


def url(model, page: str, *args) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def event() -> AuditEvent:
    session = make_session()
    return audit.append("session.launch", session=session, actor="user:1", reason="because")


OURS = list(apps.get_app_config("gpu_sessions").get_models())


@pytest.mark.parametrize("model", OURS, ids=lambda m: m.__name__)
def test_every_record_of_ours_is_read_only(model, rf):
    site = admin.site.get_model_admin(model)
    request = rf.get("/")
    request.user = make_user(is_superuser=True, is_staff=True)
    assert isinstance(site, ReadOnly)
    assert site.has_view_permission(request)
    assert not site.has_add_permission(request)
    assert not site.has_change_permission(request)
    assert not site.has_delete_permission(request)
    assert site.get_actions(request) == {}


def test_the_zone_of_its_times_is_told(root):
    event()
    for page in (reverse("admin:index"), url(AuditEvent, "changelist")):
        assert "Times in UTC" in root.get(page).content.decode()


def test_audit_events_are_listed_found_and_filtered(root):
    first, other = event(), event()
    page = root.get(url(AuditEvent, "changelist"), {"q": first.session_code})
    html = page.content.decode()
    assert first.session_code in html and other.session_code not in html
    page = root.get(url(AuditEvent, "changelist"), {"action": "session.stop"})
    assert first.session_code not in page.content.decode()


def test_audit_events_cannot_be_changed_added_or_deleted(root):
    row = event()
    assert root.get(url(AuditEvent, "add")).status_code == 403
    assert root.get(url(AuditEvent, "change", row.pk)).status_code == 200
    assert root.post(url(AuditEvent, "change", row.pk), {"action": "x"}).status_code == 403
    assert root.post(url(AuditEvent, "delete", row.pk), {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    root.post(url(AuditEvent, "changelist"), bulk)
    assert AuditEvent.objects.get(pk=row.pk).action == "session.launch"


def test_staff_alone_sees_none_of_it(client):
    client.force_login(make_user(is_staff=True))
    assert client.get(url(AuditEvent, "changelist")).status_code == 403
    assert client.get(url(Session, "changelist")).status_code == 403


def test_secrets_are_not_shown(root):
    session = make_session(checker_key="canary-checker", generated_key="canary-generated")
    make_attempt(session)
    Deployment.objects.update_or_create(
        pk=1,
        defaults={"deployment_id": "testtest00", "secret": "canary-secret",
                  "installation_id": "x", "created_at": timezone.now()},
    )  # fmt: skip
    pages = [url(m, "changelist") for m in OURS]
    pages += [url(Session, "change", session.pk), url(Deployment, "change", 1)]
    for page in pages:
        response = root.get(page)
        assert response.status_code == 200 and "canary" not in response.content.decode()


def test_the_queue_cannot_be_reached_from_the_administration(root):
    assert not [m for m in admin.site._registry if m._meta.app_label == "django_q"]
    assert "gpubroker administration" in root.get(reverse("admin:index")).content.decode()


def test_the_audit_trail_comes_first(root):
    apps = root.get(reverse("admin:index")).context["app_list"]
    assert [app["app_label"] for app in apps[:3]] == ["gpu_sessions", "providers", "auth"]
    names = [model["object_name"] for model in apps[0]["models"]]
    assert names[:3] == ["AuditEvent", "Session", "Attempt"]
