"""The audit page: who sees which events, how they are narrowed, and what the files hold."""

import csv
import io
import json
from datetime import timedelta
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions import audit, audit_watch
from sessions.audit_filters import AuditFilters, parse
from sessions.audit_search import PAGE, plain, search
from sessions.models import AuditEvent, Heartbeat
from tests.factories import make_session, make_user
from tests.web.conftest import BACKEND

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("installed")]
DAY = "2026-01-01"
HOSTILE = "=cmd|'/c calc'!A0 <script>alert(1)</script>"


@pytest.fixture
def boss() -> Client:
    user = make_user("boss")
    user.user_permissions.set(Permission.objects.filter(codename="view_all_sessions"))
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def moved(session, to: str = "creating", **fields: object) -> AuditEvent:
    data = {"from": str(session.state), "to": to}
    return audit.append("session.state", actor="worker", session=session, data=data, **fields)


def text(client: Client, query: str = "") -> str:
    answer = client.get(f"/audit/?{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_one_sees_the_events_of_ones_own_sessions(page, boss, person):
    own, other = moved(make_session(owner=person)), moved(make_session())
    audit.append("provider.frozen", actor="system", provider="vastai")
    assert own.session_code in text(page) and other.session_code not in text(page)
    assert "1 event of your sessions" in text(page)
    assert "provider.frozen" not in text(page) and "provider.frozen" in text(boss)
    assert own.session_code in text(boss) and other.session_code in text(boss)
    for kind in ("csv", "json"):
        file = page.get(f"/audit/export.{kind}").content.decode()
        assert own.session_code in file and other.session_code not in file
        assert "provider.frozen" not in file
    assert "No events" in text(page, f"session={other.session_code}")


def test_an_event_tells_before_and_after_who_and_in_which_request(page, person):
    session = make_session(owner=person)
    audit.append(
        "session.extend", actor=f"user:{person.pk}", session=session, request_id="abc-1",
        data={"from": f"{DAY}T10:00:00+00:00", "to": f"{DAY}T11:00:00+00:00", "note": ["x", "y"]},
    )  # fmt: skip
    shown = text(page)
    assert f"<dt>Before</dt><dd>{DAY} 10:00:00 UTC</dd>" in shown
    assert f"<dt>After</dt><dd>{DAY} 11:00:00 UTC</dd>" in shown
    assert f'ada <span class="soft">(user:{person.pk})</span>' in shown
    assert "?request=abc-1" in shown and "<dt>note</dt><dd>x, y</dd>" in shown
    assert f'href="/sessions/{session.pk}/"' in shown


def test_facets_count_what_choosing_them_would_show(boss):
    first, second = make_session(), make_session()
    for session in (first, first, second):
        moved(session, provider="vastai" if session is first else "tensordock")
    audit.append("session.launch", actor="user:99", session=first, provider="vastai")
    visible, now = AuditEvent.objects.all(), timezone.now()

    def counts(filters: AuditFilters, name: str) -> dict[str, int]:
        return {o.value: o.count for o in search(visible, filters, now).facets[name]}

    chosen = AuditFilters(action=("session.state",), provider=("vastai",))
    assert search(visible, chosen, now).matching == 2
    assert counts(chosen, "action")["session.state"] == 2
    assert counts(chosen, "action")["session.launch"] == 1  # as if no action were chosen
    assert counts(chosen, "provider") == {"vastai": 2, "tensordock": 1}
    for name, values in {"action": ("session.launch",), "provider": ("tensordock",)}.items():
        assert search(visible, AuditFilters(**{name: values}), now).matching == 1
    assert counts(AuditFilters(actor=("user:98",)), "actor")["user:98"] == 0


def test_long_names_break_after_a_dot_and_stay_text(boss):
    audit.append("provider.attach.intent", actor="<b>x.y</b>")
    page = text(boss)
    assert "<b>provider.<wbr>attach.<wbr>intent</b>" in page
    assert "&lt;b&gt;x.<wbr>y&lt;/b&gt;" in page and "<b>x" not in page


def test_older_events_are_a_page_away_and_none_is_lost_or_shown_twice(boss):
    session = make_session()
    events = [moved(session).sequence for _ in range(PAGE + 3)]
    visible, now = AuditEvent.objects.filter(session_code=session.code), timezone.now()
    newest = search(visible, AuditFilters(), now)
    moved(session)  # meanwhile
    oldest = search(visible, AuditFilters(before=newest.older), now)
    seen = [line.event.sequence for line in (*newest.lines, *oldest.lines)]
    assert seen == events[::-1] and oldest.older is None
    assert f"?session={session.code}&amp;before=" in text(boss, f"session={session.code}")


def test_the_period_is_a_week_unless_one_thing_is_asked_for(boss):
    old, session = timezone.now() - timedelta(days=8), make_session()
    event = audit.append("session.launch", actor="user:1", session=session, now=old)
    assert event.session_code not in text(boss)
    assert event.session_code in text(boss, "period=30")
    assert event.session_code in text(boss, f"session={session.code}")
    assert "Nothing matches" in text(boss, f"session={session.code}&period=1")


def test_an_address_survives_the_round_trip_and_nonsense_is_named():
    address = "action=session.state&actor=user%3A7&session=ab1&period=30&before=12"
    filters = parse(parse_qs(address))
    assert filters.query(before=12) == address and filters.ignored == ()
    assert filters.without("actor", "user:7") == "action=session.state&session=ab1&period=30"
    assert filters.query() == address.removesuffix("&before=12")
    for wrong in ("action=<b>", "label=x y", "period=9", "session=../x", "actor=%00"):
        found = parse(parse_qs(wrong))
        assert found.query() == "" and len(found.ignored) == 1
    assert parse({"before": ["-1"]}) == AuditFilters()


def test_files_hold_the_chain_and_no_formula(boss):
    session = make_session()
    event = audit.append("session.launch", actor="user:1", session=session, reason=HOSTILE)
    found = boss.get(f"/audit/export.csv?session={session.code}")
    assert found["Content-Disposition"] == 'attachment; filename="gpubroker-audit.csv"'
    [row] = csv.DictReader(io.StringIO(found.content.decode()))
    assert row["reason"] == "'" + HOSTILE and row["hash"] == event.hash
    [same] = json.loads(boss.get(f"/audit/export.json?session={session.code}").content)
    assert same["reason"] == HOSTILE and same["previous_hash"] == event.previous_hash
    assert "<script>alert" not in text(boss)


def test_those_who_see_all_see_the_verdict_on_the_chain(boss, page):
    assert 'class="chain"' not in text(boss)
    audit_watch.look(timezone.now())
    assert "The chain is whole up to event" in text(boss)
    assert 'class="chain"' not in text(page)
    Heartbeat.objects.filter(name="audit").update(
        data=audit_watch.NOTHING | {"ok": False, "problem": "Event 7 is <missing>."}
    )
    assert "The chain is broken" in text(boss) and "Event 7 is &lt;missing&gt;." in text(boss)


def test_htmx_gets_the_results_and_the_facets(boss):
    part = boss.get("/audit/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith("<section") and 'id="choices" hx-swap-oob="true"' in part
    assert "<html" not in part


def test_queries_stay_constant(boss):
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            text(boss)
        return len(seen)

    audit.append("session.launch", actor="user:0", session=make_session())
    first = queries()
    for number in range(20):
        moved(make_session())
        audit.append("session.launch", actor=f"user:{number}", session=make_session())
    assert queries() == first


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (0, "0"),
        ([], "–"),
        ({"a": [1, 2]}, "a 1, 2"),
        ("2026-01-01T10:00:05.123456+00:00", "2026-01-01 10:00:05 UTC"),
    ],
)
def test_values_are_told_in_one_line(value, shown):
    assert plain(value) == shown
