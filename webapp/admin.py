"""Django's admin for looking at every row; changes go through the pages and their services."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

_APPS = ("annotation", "registry", "workers", "webapp")
_LISTED_TYPES = (
    models.CharField,
    models.IntegerField,
    models.BooleanField,
    models.DateTimeField,
    models.ForeignKey,
)
_MAX_COLUMNS = 7

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[models.Model]
else:  # generic in the type stubs only
    _ModelAdmin = admin.ModelAdmin


class ConcordAdminSite(admin.AdminSite):
    """The admin, for the role admin alone, behind the site's own sign-in page."""

    site_header = "Concord database"
    site_title = "Concord"
    index_title = "Every row, for looking at"
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether this person is an active admin."""
        user = request.user
        return user.is_authenticated and user.has_role(("admin",))

    def login(self, request: HttpRequest, extra_context: object = None) -> HttpResponse:
        """Refuse other roles instead of asking them to sign in once more."""
        if request.user.is_authenticated:
            raise PermissionDenied("The database is for the role admin.")
        return redirect("sign-in")


class ReadOnlyAdmin(_ModelAdmin):
    """Shows rows and changes none: what the services guarantee is not undone by hand."""

    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Everybody who reaches the admin may look."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody adds rows here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes rows here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody deletes rows here."""
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Every app is listed."""
        return True


def register_all(site: admin.AdminSite) -> None:
    """Register every model of ours, each with its first few plain columns."""
    for label in _APPS:
        for model in apps.get_app_config(label).get_models():
            site.register(model, _admin_for(model))


def _admin_for(model: type[models.Model]) -> type[ReadOnlyAdmin]:
    fields: Iterable[Any] = model._meta.fields
    columns = [
        f.name for f in fields if isinstance(f, _LISTED_TYPES) and f.name not in ("id", "password")
    ]
    attributes = {
        "list_display": ["pk", *columns[:_MAX_COLUMNS]],
        "list_select_related": True,
        "exclude": ["password"],
        "ordering": ["-pk"],
    }
    return type(f"{model.__name__}Admin", (ReadOnlyAdmin,), attributes)
