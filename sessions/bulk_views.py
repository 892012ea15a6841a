"""Stop several sessions: GET says what would be destroyed, POST what became of each."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from . import bulk


@require_http_methods(["GET", "HEAD", "POST"])
def sessions_stop(request: HttpRequest) -> HttpResponse:
    done = request.method == "POST"
    given = request.POST if done else request.GET
    codes, now = bulk.picked(given.getlist("s")), timezone.now()
    if not codes:
        messages.info(request, "No session was selected.")
        return redirect("sessions")
    act = bulk.stop if done else bulk.plan
    context = {"plan": act(request.user, codes, now), "done": done}
    return render(request, "sessions/sessions_stop.html", context)
