"""A person's public keys. Nobody sees or touches those of others."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from .forms import KeyBox, KeyForm, focus_first_error
from .models import SSHKey


@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    form = KeyForm(request.POST or None, owner=request.user)
    if request.method == "POST" and form.is_valid():
        key = form.save()
        messages.success(request, f"“{key.name}” is registered. New sessions can use it.")
        return redirect("keys")
    focus_first_error(form)
    own = SSHKey.objects.filter(owner=request.user).order_by("name", "pk")
    context = {"form": form, "keys": own}
    return render(request, "sessions/keys.html", context, status=422 if form.is_bound else 200)


@require_POST
def key_paste(request: HttpRequest) -> HttpResponse:
    """The keys of the launch form again, with the pasted one registered and chosen."""
    form = KeyBox(request.POST, owner=request.user)
    form.fields["new_key"].required = True
    if not form.is_valid():
        focus_first_error(form)
        return render(request, "sessions/_launch_keys.html", {"form": form}, status=422)
    new = form.register_new_key()
    chosen = {
        "public_keys": [key.pk for key in form.cleaned_data["public_keys"]] + [new.pk],
        "generate_key": form.cleaned_data["generate_key"],
    }
    context = {"form": KeyBox(owner=request.user, initial=chosen), "added": new}
    return render(request, "sessions/_launch_keys.html", context)


@require_POST
def key_delete(request: HttpRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(SSHKey, owner=request.user, pk=pk)
    key.delete()
    messages.success(request, f"“{key.name}” is removed. Running sessions keep their copy of it.")
    return redirect("keys")
