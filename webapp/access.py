"""Who may call which view: every view says so with one decorator.

`tests/webapp/test_access.py` walks the whole URLconf and fails for a view that says nothing.
"""

from collections.abc import Callable
from functools import wraps
from typing import Final

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from annotation.models import User
from webapp import passwords

View = Callable[..., HttpResponseBase]

PUBLIC: Final = "public"
"""Marks a view that needs nobody signed in."""

EVERY_ROLE: Final = tuple(role.value for role in User.Role)


class Request(HttpRequest):
    """A request as the middleware leaves it."""

    htmx: HtmxDetails


class SignedInRequest(Request):
    """A request whose user is signed in: what every view with roles receives."""

    user: User


def roles(*allowed: str) -> Callable[[View], View]:
    """Let only active people with one of the `allowed` roles call the view; others see 403."""
    unknown = set(allowed) - set(EVERY_ROLE)
    assert allowed, "a view without roles is open to nobody"
    assert not unknown, f"unknown roles {unknown}"

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: SignedInRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            if not request.user.has_role(allowed):
                needed = " or ".join(allowed)
                raise PermissionDenied(f"This page is for the role {needed}.")
            if passwords.must_change(request) and request.path != reverse("password"):
                return redirect("password")
            return view(request, *args, **kwargs)

        guarded.allowed_roles = allowed  # type: ignore[attr-defined] # read by the access test
        return guarded

    return decorate


def public(view: View) -> View:
    """Let everybody call the view, signed in or not."""

    @wraps(view)
    def open_view(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        return view(request, *args, **kwargs)

    open_view.allowed_roles = (PUBLIC,)  # type: ignore[attr-defined] # read by the access test
    return login_not_required(open_view)


def is_safe_target(request: HttpRequest, target: str) -> bool:
    """Whether `target` is an address of this site that a redirect may lead to."""
    return bool(target) and url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )


def safe_target(request: HttpRequest, target: str, *, default: str = "home") -> str:
    """Return `target` if it stays on this site, else the address of `default`."""
    return target if is_safe_target(request, target) else reverse(default)
