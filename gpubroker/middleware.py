"""What every request and answer carries."""

import re
import secrets
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from sessions import audit

PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class RequestId:
    """One id for the log, the audit trail and the answer; and headers that no view may forget."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        number = _given(request) or secrets.token_hex(8)
        mark = audit.request_id.set(number)
        try:
            response = self.get_response(request)
        finally:
            audit.request_id.reset(mark)
        response = _whole_page(request, response)
        _no_copies(request, response)
        response["X-Request-ID"] = number
        response["Permissions-Policy"] = PERMISSIONS
        return response


def _given(request: HttpRequest) -> str:
    """The id of a proxy in front, when it looks like one."""
    given = request.headers.get("X-Request-ID", "")
    return given if re.fullmatch(r"[A-Za-z0-9-]{8,36}", given) else ""


def _no_copies(request: HttpRequest, response: HttpResponse) -> None:
    """Pages of people who are signed in stay out of every cache."""
    if request.path.startswith(f"/{settings.STATIC_URL.strip('/')}/"):
        return
    if not response.has_header("Cache-Control"):
        patch_cache_control(response, no_store=True, private=True)
    patch_vary_headers(response, ["HX-Request"])


def _whole_page(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Whoever was signed out meanwhile gets the sign-in page, not a piece of it in a table."""
    login = resolve_url(settings.LOGIN_URL)
    if request.headers.get("HX-Request") != "true" or response.status_code != 302:
        return response
    if not response["Location"].startswith(f"{login}?"):
        return response
    there = request.headers.get("HX-Current-URL", "")
    safe = url_has_allowed_host_and_scheme(there, {request.get_host()}, request.is_secure())
    answer = HttpResponse(status=204)
    answer["HX-Redirect"] = there if safe else login  # reloading asks for the password
    return answer
