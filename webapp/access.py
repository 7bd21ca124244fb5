"""Who may call which view: every view says so with one decorator, and one middleware enforces it.

`tests/webapp/test_access.py` walks the whole URLconf and fails for a view that says nothing.
"""

from collections.abc import Callable
from functools import wraps
from typing import Final
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect, push_url, reswap, retarget
from django_htmx.middleware import HtmxDetails

from annotation.errors import NotFoundError
from annotation.models import User
from webapp import kept, passwords

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


class NotFoundMiddleware:
    """Answers 404 where a getter finds no row of this person's: strangers' rows do not exist."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Return the page for a row that is not there."""
        from webapp.views.errors import not_found

        return not_found(request, exception) if isinstance(exception, NotFoundError) else None


class SignInMiddleware:
    """Sends whoever is not signed in to the sign-in page, and keeps what they had typed.

    A form that was posted after the session ended is carried through the sign-in page as hidden
    fields and stands in the form again afterwards (`webapp.kept`). Requests by script are told
    with a status they can act on instead of being handed a page they did not ask for.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        return self.get_response(request)

    def process_view(self, request: Request, view: View, *_: object) -> HttpResponseBase | None:
        """Stop a request of somebody who is not signed in, unless the view is public."""
        if request.user.is_authenticated or not getattr(view, "login_required", True):
            return None
        target = _page_of(request)
        address = f"{reverse('sign-in')}?{urlencode({'next': target})}"
        if request.headers.get("Accept") == "application/json":
            return JsonResponse({"error": "signed out", "sign_in": address}, status=401)
        if request.htmx and request.method == "GET":
            return HttpResponseClientRedirect(address)
        if request.method == "POST":
            return _sign_in_page_with_words(request, target, address)
        return redirect(address)


def _page_of(request: Request) -> str:
    """Return the page to come back to: where the form stood, not where it was sent."""
    if request.method == "GET" and not request.htmx:
        return request.get_full_path()
    referer = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not is_safe_target(request, referer):
        return reverse("home")
    parts = urlsplit(referer)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _sign_in_page_with_words(request: Request, target: str, address: str) -> HttpResponse:
    from webapp.views.accounts import sign_in_page

    response = sign_in_page(request, target=target, fields=kept.fields_of(request.POST))
    if request.htmx:
        push_url(reswap(retarget(response, "body"), "innerHTML"), address)
    return response
