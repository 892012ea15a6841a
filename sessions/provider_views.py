"""The providers page: rows only, never a call to a provider, also where one asks for a test."""

import json

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from providers import jobs, registry

from . import provider_cards as cards


@require_safe
def providers(request: HttpRequest) -> HttpResponse:
    context = {"cards": cards.cards(timezone.now()), "missing": cards.missing()}
    return render(request, "providers/providers.html", context)


@require_POST
def provider_test(request: HttpRequest, provider: str) -> HttpResponse:
    """Ask the worker to read the account now; it answers through the card."""
    if provider not in registry.names():
        raise Http404
    jobs.want_account(provider, timezone.now())
    if not request.htmx:
        return redirect("providers")
    return render(request, "providers/_provider.html", {"card": card(provider)})


@require_safe
def provider_card(request: HttpRequest, provider: str) -> HttpResponse:
    """Polled while a test is under way; says aloud what it found, once."""
    shown = card(provider)
    response = render(request, "providers/_provider.html", {"card": shown})
    if request.htmx and not shown.waiting:
        response["HX-Trigger"] = json.dumps({"toast": _news(shown)})
    return response


def card(provider: str) -> cards.Card:
    found = cards.cards(timezone.now(), [provider])
    if provider not in settings.PROVIDERS or not found:
        raise Http404
    return found[0]


def _news(shown: cards.Card) -> dict[str, str]:
    title, health = shown.freshness.title, shown.health
    if health.auth_error:
        return {"level": "error", "text": f"{title} refuses the key."}
    if shown.unanswered:
        return {"level": "warning", "text": f"{title}: no answer within a minute."}
    if health.account_error:
        return {"level": "warning", "text": f"{title} did not answer as it should."}
    return {"level": "success", "text": f"{title} accepts the key."}
