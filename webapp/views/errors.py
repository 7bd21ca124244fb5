"""Error pages: what happened, and what to do next."""

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string


def _page(
    request: HttpRequest, *, status: int, title: str, message: str, advice: str
) -> HttpResponse:
    context = {"status": status, "title": title, "message": message, "advice": advice}
    return render(request, "webapp/error.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: the request makes no sense, or 413: it is too large."""
    if isinstance(exception, RequestDataTooBig):
        return _page(
            request,
            status=413,
            title="This is more than a form takes",
            message=f"The request is too large: {exception}.",
            advice="Send a smaller file, or ask whoever runs the site for the command.",
        )
    return _page(
        request,
        status=400,
        title="This request makes no sense to us",
        message="The address or the form held something that no page of ours sends.",
        advice="Go back, reload the page, and try again.",
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: signed in, but with another role."""
    return _page(
        request,
        status=403,
        title="This page is not for your role",
        message=str(exception) or "Your account has another role.",
        advice="If you need it, ask a lead to change your role.",
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form's token is missing or old."""
    return _page(
        request,
        status=403,
        title="This form is too old",
        message="You have signed in or out since it was opened, or the browser blocks cookies.",
        advice="Go back, reload the page, and send it again; drafts are kept.",
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: nothing there, or nothing of this person's."""
    return _page(
        request,
        status=404,
        title="There is nothing here",
        message="The address is wrong, or what it named is not yours to see.",
        advice="Check the address, or start from your own page.",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """500: rendered without the request, so that nothing can fail a second time."""
    context = {
        "status": 500,
        "title": "Something broke on our side",
        "message": "The error is in the server's log. What you typed is kept as a draft.",
        "advice": "Try again in a minute. If it happens again, tell a lead at what time.",
    }
    return HttpResponse(render_to_string("webapp/error.html", context), status=500)
