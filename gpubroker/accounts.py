"""Signing in: by a one-time link, or with a password that the person has chosen."""

from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model, login, views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.encoding import force_str
from django.utils.http import base36_to_int, urlsafe_base64_decode, urlsafe_base64_encode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

LINK_LIFETIME = timedelta(hours=24)
BACKEND = "django.contrib.auth.backends.ModelBackend"


class SigninTokens(PasswordResetTokenGenerator):
    """Dead after one use (the last login is part of it), a new password, or a day."""

    key_salt = "gpubroker.accounts.SigninTokens"

    def check_token(self, user: AbstractUser | None, token: str | None) -> bool:
        if not super().check_token(user, token):
            return False
        age = self._num_seconds(self._now()) - base36_to_int(str(token).split("-")[0])
        return age <= LINK_LIFETIME.total_seconds()

    def _make_hash_value(self, user: AbstractUser, timestamp: int) -> str:
        """With microseconds: two sign-ins in one second are two sign-ins."""
        return f"{super()._make_hash_value(user, timestamp)}{user.last_login}"


tokens = SigninTokens()


def signin_path(user: AbstractUser) -> str:
    """The path of a link that signs this person in once, within a day."""
    uid = urlsafe_base64_encode(str(user.pk).encode())
    return reverse("signin", args=[uid, tokens.make_token(user)])


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def signin(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """GET shows a button (mail scanners and previews follow links); POST signs in."""
    user = _owner(uid, token)
    if not user:
        return render(request, "registration/link_dead.html", status=410)
    if request.method != "POST":
        return render(request, "registration/signin.html", {"person": user})
    if not _use_up(user):
        return render(request, "registration/link_dead.html", status=410)
    login(request, user, backend=BACKEND)
    return redirect(settings.LOGIN_REDIRECT_URL)


def _owner(uid: str, token: str) -> AbstractUser | None:
    try:
        pk = int(force_str(urlsafe_base64_decode(uid)))
    except (ValueError, OverflowError):  # UnicodeDecodeError is a ValueError
        return None
    user = get_user_model().objects.filter(pk=pk, is_active=True).first() if pk < 2**63 else None
    return user if tokens.check_token(user, token) else None


def _use_up(user: AbstractUser) -> bool:
    """Only one of two simultaneous clicks finds the last login that the link was made for."""
    unchanged = get_user_model().objects.filter(pk=user.pk, last_login=user.last_login)
    return bool(unchanged.update(last_login=timezone.now()))


@method_decorator(never_cache, name="dispatch")
class ChangePassword(views.PasswordChangeView):
    """Who came by link and has no password yet sets one without an old one."""

    template_name = "registration/password.html"
    success_url = reverse_lazy("offers")

    def get_form_class(self) -> type[SetPasswordForm]:
        return PasswordChangeForm if self.request.user.has_usable_password() else SetPasswordForm

    def form_valid(self, form: SetPasswordForm) -> HttpResponse:
        messages.success(self.request, "Your new password is set. Other devices are signed out.")
        return super().form_valid(form)

    def form_invalid(self, form: SetPasswordForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)
