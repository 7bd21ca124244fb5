"""The Django admin's site: for the role admin, behind the site's own sign-in page."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from annotation.models import User


class ConcordAdminSite(admin.AdminSite):
    """The admin, where every row can be looked at."""

    site_header = "Concord database"
    site_title = "Concord"
    index_title = "Every row"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether this person is an active admin."""
        return isinstance(request.user, User) and request.user.has_role((User.Role.ADMIN,))

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # noqa: ANN401, ARG002 - Django's signature
        """Refuse other roles instead of asking them to sign in once more."""
        if request.user.is_authenticated:
            raise PermissionDenied("The database is for the role admin.")
        return redirect("sign-in")
