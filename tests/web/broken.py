"""The project's addresses, and some that end in each page for what went wrong."""

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from gpubroker.urls import urlpatterns as real


def refuse(request: HttpRequest, error: type[Exception]) -> HttpResponse:
    raise error("on purpose")


def show(request: HttpRequest, template: str) -> HttpResponse:
    return render(request, template)


urlpatterns = [
    *real,
    path("broken/400/", refuse, {"error": SuspiciousOperation}),
    path("broken/403/", refuse, {"error": PermissionDenied}),
    path("broken/500/", refuse, {"error": RuntimeError}),
    path("broken/old/", show, {"template": "403_csrf.html"}),
    path("broken/locked/", show, {"template": "registration/locked.html"}),
]
