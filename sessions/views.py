"""Pages of sessions. Thin: look the row up among those one may see, ask, render."""

from datetime import datetime
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from providers.usage import MAX_HOURS

from . import asks, audit, limits, live, relaunch, vault
from .connect import alias
from .forms import IdleForm
from .models import Session
from .overview import PERIODS, USUAL_PERIOD, ended, overview
from .rules import EXTEND_HOURS
from .states import State


@require_safe
def session_list(request: HttpRequest) -> HttpResponse:
    """Open sessions, live; or with ?show=ended&days=7&page=2 those that have ended."""
    now, visible = timezone.now(), Session.objects.visible_to(request.user)
    sees_all = live.audience(request.user) == live.ALL
    context: dict[str, object] = {
        "sees_all": sees_all,
        "own_only": sees_all and not request.user.has_perm("gpu_sessions.stop_all_sessions"),
        "periods": PERIODS,
    }
    if request.GET.get("show") == "ended":
        context["ended"] = ended(visible, now, period(request), page_number(request))
    else:
        context["live_list"] = live.list_html(overview(visible, now), push=False)
    return render(request, "sessions/session_list.html", context)


def period(request: HttpRequest) -> int:
    given = request.GET.get("days", "")
    return next((days for days in PERIODS if given == str(days)), USUAL_PERIOD)


def page_number(request: HttpRequest) -> int:
    given = request.GET.get("page", "1")
    return max(int(given), 1) if given.isdecimal() and len(given) < 6 else 1


@require_safe
def list_fragment(request: HttpRequest) -> HttpResponse:
    """The same state as the socket's, for browsers whose socket is down; so is `strip`."""
    return HttpResponse(live.list_push(live.audience(request.user), timezone.now()))


@require_safe
def strip(request: HttpRequest) -> HttpResponse:
    return HttpResponse(live.strip_push(live.audience(request.user), timezone.now()))


@require_safe
def session_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    session = find(request, pk)
    fragments = live.session_fragments(session, timezone.now(), push=False)
    context = {
        "session": session,
        "parts": fragments,
        "page_title": live.page_title(session),
        "is_owner": session.owner_id == request.user.pk,
        "may_stop": asks.may_stop(request.user, session),
        "idle_form": IdleForm(initial={"idle_minutes": session.idle_minutes}),
    }
    return render(request, "sessions/session.html", context)


@require_safe
def session_fragment(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The same state as the socket's, for browsers whose socket is down."""
    now = timezone.now()
    totals = live.strip_push(live.audience(request.user), now)
    return HttpResponse(live.session_push(find(request, pk), now) + totals)


@require_POST
def session_stop(request: HttpRequest, pk: UUID) -> HttpResponse:
    session = find(request, pk)
    if not asks.may_stop(request.user, session):
        raise PermissionDenied
    own = session.owner_id == request.user.pk
    asks.stop(session, request.user, "user" if own else "admin")
    return answer(request, session)


@require_POST
def session_extend(request: HttpRequest, pk: UUID) -> HttpResponse:
    session = find(request, pk)
    if not asks.may_stop(request.user, session):
        raise PermissionDenied
    if asks.extend(session, request.user, hours=EXTEND_HOURS):
        return answer(request, session)
    longest = f"No more can be added: the longest session is {MAX_HOURS} hours."
    return answer(request, session, _too_late(session) or longest)


@require_POST
def session_keep(request: HttpRequest, pk: UUID) -> HttpResponse:
    """ "I am still using it": idleness counts from now."""
    session = find(request, pk)
    if not asks.may_stop(request.user, session):
        raise PermissionDenied
    kept = asks.keep_running(session, request.user)
    return answer(request, session, "" if kept else _too_late(session))


@require_POST
def session_idle(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Another time, or none with `off`."""
    session, form = find(request, pk), IdleForm({} if "off" in request.POST else request.POST)
    if not asks.may_stop(request.user, session):
        raise PermissionDenied
    if not form.is_valid():
        return idle_wrong(request, session, form)
    minutes = form.cleaned_data["idle_minutes"]
    done = asks.idle_stop(session, request.user, minutes)
    response = answer(request, session, "" if done else _too_late(session))
    if request.htmx:
        response.write(idle_push(IdleForm(initial={"idle_minutes": minutes})))
    return response


def idle_wrong(request: HttpRequest, session: Session, form: IdleForm) -> HttpResponse:
    """The field again, with what was typed and what is wrong with it."""
    if not request.htmx:
        return answer(request, session, " ".join(form.errors["idle_minutes"]))
    form.fields["idle_minutes"].widget.attrs["autofocus"] = True
    return HttpResponse(idle_push(form), status=422)


def idle_push(form: IdleForm) -> SafeString:
    return render_to_string("sessions/_idle_field.html", {"idle_form": form, "push": True})


def _too_late(session: Session) -> str:
    """Why nothing can be changed any more; empty = it can."""
    if session.state == State.ENDED:
        return "It has ended: nothing was changed."
    return "It is stopping already: nothing was changed." if session.state == State.STOPPING else ""


@require_safe
def session_again(request: HttpRequest, pk: UUID) -> HttpResponse:
    """To the launch form of a comparable offer, filled in as before. Nothing is rented by it."""
    session = relaunch.mine(request.user, str(pk))
    if session is None:
        raise Http404
    offer = relaunch.offer(session, timezone.now())
    if offer is None:
        messages.warning(request, "No comparable offer inside the same ceiling just now.")
        return redirect("offers")
    return redirect(f"{reverse('launch', args=[offer.provider, offer.offer_id])}?again={pk}")


@require_POST
def session_key(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The generated private key, for its owner alone and while the session is open."""
    session = find(request, pk)
    if session.owner_id != request.user.pk or not session.generated_key or not session.is_open:
        raise Http404
    pem = vault.unseal(session.generated_key, vault.generated(session.pk))
    try:
        _record_download(session, request.user)
    except limits.TooMany as refusal:
        context = {"session": session, "refusal": refusal}
        return again_later(render(request, "sessions/key_limit.html", context, status=429), refusal)
    response = HttpResponse(pem, content_type="application/x-pem-file")
    response["Content-Disposition"] = f'attachment; filename="{alias(session)}"'
    response["Cache-Control"] = "no-store, private"
    return response


def _record_download(session: Session, owner: AbstractUser) -> None:
    now, actor = timezone.now(), asks.actor(owner)
    with transaction.atomic():
        limits.one_at_a_time(owner)
        limits.check_key_download(actor, now)
        audit.append(limits.KEY_DOWNLOAD, session=session, actor=actor, now=now)


def again_later(response: HttpResponse, refusal: limits.TooMany) -> HttpResponse:
    """The answer 429 with the seconds to wait, for programs."""
    response["Retry-After"] = str(refusal.seconds)
    return response


def find(request: HttpRequest, pk: UUID) -> Session:
    """404 for what does not exist and for what is not one's business alike."""
    return get_object_or_404(Session.objects.visible_to(request.user), pk=pk)


def answer(request: HttpRequest, session: Session, problem: str = "") -> HttpResponse:
    """The fragments to htmx, the page to everything else; with what could not be done."""
    if not request.htmx:
        if problem:
            messages.warning(request, problem)
        return redirect("session", pk=session.pk)
    session.refresh_from_db()
    response = pushed(session, timezone.now())
    if problem:
        trigger_client_event(response, "toast", {"level": "warning", "text": problem})
    return response


def pushed(session: Session, now: datetime) -> HttpResponse:
    return HttpResponse(live.session_push(session, now))
