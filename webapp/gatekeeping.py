"""What stands before every view: nobody signed in, and rows that are not this person's."""

from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect, push_url, reswap, retarget

from annotation.errors import NotFoundError
from webapp import kept
from webapp.access import Request, View, is_safe_target
from webapp.views.accounts import sign_in_page
from webapp.views.errors import not_found


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
    response = sign_in_page(request, target=target, fields=kept.fields_of(request.POST))
    if request.htmx:
        push_url(reswap(retarget(response, "body"), "innerHTML"), address)
    return response
