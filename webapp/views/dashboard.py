"""The lead's start page: what is open, what runs, and how good the newest policy is."""

from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.access import SignedInRequest, roles
from webapp.selectors.dashboard import dashboard_page


@roles("lead", "admin")
@require_safe
def dashboard(request: SignedInRequest) -> HttpResponseBase:
    """Show the state of the whole loop; refreshes itself."""
    template = "_dashboard.html" if request.htmx else "dashboard.html"
    return render(request, f"webapp/{template}", {"page": dashboard_page()})
