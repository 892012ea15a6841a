"""What every page shows around its content."""

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from sessions import identity, live, watch


def page(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)  # missing where a middleware above failed
    signed_in = user is not None and user.is_authenticated
    sees_all = signed_in and user.has_perm("gpu_sessions.view_all_sessions")
    return {
        "simulated": settings.SIMULATED,
        "server_now": timezone.now(),
        "problems": settings.CONFIG_PROBLEMS if signed_in else (),
        "read_only": identity.current().read_only if signed_in else "",
        "attention": watch.banner(timezone.now()) if sees_all else None,
        "strip": live.strip(user) if signed_in else {},
        "section": request.resolver_match.url_name if request.resolver_match else "",
    }
