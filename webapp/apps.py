"""The Django apps of the web pages and of the admin."""

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig


class WebappConfig(AppConfig):
    """Pages, forms, templates, static files."""

    name = "webapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register every model with the admin, once all apps are loaded."""
        from django.contrib import admin

        from webapp.admin import register_all

        register_all(admin.site)


class ConcordAdminConfig(SimpleAdminConfig):
    """The admin with our site: the role admin alone."""

    default_site = "webapp.admin.ConcordAdminSite"
