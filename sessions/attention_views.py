"""The page "Needs attention", and what operators may do there: rows only, never a marketplace."""

from datetime import datetime

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from providers import registry
from providers.models import ProviderHealth
from providers.usage import HOURS

from . import adopt, asks, orphans, sweep, watch
from . import attention as needs
from .models import Session, Sighting

LONGEST_REASON = 200


@require_safe
def attention(request: HttpRequest) -> HttpResponse:
    """Everything for those who may see all; for others what concerns their own sessions."""
    now = timezone.now()
    if not request.user.has_perm("gpu_sessions.view_all_sessions"):
        own = needs.opened(Session.objects.visible_to(request.user))
        context: dict[str, object] = {"alerts": needs.of_sessions(own, now)}
    else:
        context = everything(now) | {"sees_all": True, "may_act": may_act(request)}
    return render(request, "sessions/attention.html", context)


def everything(now: datetime) -> dict[str, object]:
    seen = needs.scene(now)
    return {
        "alerts": needs.alerts(seen, now),
        "orphans": seen.orphans,
        "adopted_hours": HOURS,
        "people": people(o.sighting.ignored_by for o in seen.orphans),
        "frozen": needs.frozen(seen),
        "surveys": [
            {"title": registry.title(survey.provider), "survey": survey}
            for survey in seen.surveys
            if survey.foreign
        ],
    }


def people(actors: object) -> dict[str, str]:
    """Actor -> name."""
    ids = {actor.removeprefix("user:") for actor in actors if actor}
    found = get_user_model().objects.filter(pk__in=ids) if ids else ()
    return {f"user:{user.pk}": user.get_username() for user in found}


def may_act(request: HttpRequest) -> bool:
    rights = ("gpu_sessions.view_all_sessions", "gpu_sessions.stop_all_sessions")
    return request.user.has_perms(rights)


@require_POST
def hurry(request: HttpRequest, pk: int) -> HttpResponse:
    sighting = find(request, pk)
    if request.POST.get("confirm") != sighting.instance_id:
        return refuse(request, "Confirm that this machine is to be destroyed.")
    now = timezone.now()
    if orphans.hurry(pk, asks.actor(request.user), now):
        watch.record(now)
    messages.success(request, "It is destroyed as soon as a second look has confirmed it.")
    return redirect("attention")


@require_POST
def ignore(request: HttpRequest, pk: int) -> HttpResponse:
    find(request, pk)
    reason, now = given_reason(request), timezone.now()
    if not reason:
        return refuse(request, "Say why it is ignored.")
    if orphans.ignore(pk, asks.actor(request.user), reason, now):
        watch.record(now)
    messages.success(request, "Ignored: it stays listed here and is not destroyed by itself.")
    return redirect("attention")


@require_POST
def adopt_orphan(request: HttpRequest, pk: int) -> HttpResponse:
    """To its session, which verifies the machine from now on."""
    sighting = find(request, pk)
    reason, now = given_reason(request), timezone.now()
    if not reason or request.POST.get("confirm") != sighting.instance_id:
        return refuse(request, "Confirm the machine, and say why it is adopted.")
    try:
        session = adopt.adopt(pk, request.user, reason, now)
    except adopt.AdoptRefused as refusal:
        return refuse(request, f"Not adopted. {refusal}")
    watch.record(now)
    messages.success(request, "Adopted: it is verified now, like any machine that has started.")
    return redirect("session", session.pk)


@require_POST
def release(request: HttpRequest, provider: str) -> HttpResponse:
    if not may_act(request) or not ProviderHealth.objects.filter(provider=provider).exists():
        raise Http404
    reason, now = given_reason(request), timezone.now()
    if not reason:
        return refuse(request, "Say why the readings can be believed again.")
    shown = request.POST.get("frozen", "")
    if sweep.release(provider, shown, asks.actor(request.user), reason, now):
        watch.record(now)
        messages.success(request, f"Released: {registry.title(provider)} is believed again.")
    else:
        messages.warning(request, "Nothing was released: this is not what holds it back now.")
    return redirect("attention")


def find(request: HttpRequest, pk: int) -> Sighting:
    """404 for what is not there and for whom it does not concern alike."""
    if not may_act(request):
        raise Http404
    return get_object_or_404(Sighting, pk=pk, gone_at__isnull=True)


def given_reason(request: HttpRequest) -> str:
    return " ".join(request.POST.get("reason", "").split())[:LONGEST_REASON]


def refuse(request: HttpRequest, why: str) -> HttpResponse:
    messages.error(request, why)
    return redirect("attention")
