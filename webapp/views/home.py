"""The start page: each role has its own."""

from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from webapp.access import EVERY_ROLE, SignedInRequest, roles

_START = {"annotator": "annotate", "reviewer": "review", "lead": "dashboard", "admin": "dashboard"}


@roles(*EVERY_ROLE)
@require_safe
def home(request: SignedInRequest) -> HttpResponseBase:
    """Lead each role to its page."""
    return redirect(_START[request.user.role])
