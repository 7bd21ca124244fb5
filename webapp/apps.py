"""The Django apps of the web pages and of the admin."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class WebappConfig(AppConfig):
    """Pages, forms, templates, static files."""

    name = "webapp"
    default_auto_field = "django.db.models.BigAutoField"


class ConcordAdminConfig(AdminConfig):
    """The admin with our site: the role admin alone."""

    default_site = "webapp.admin.ConcordAdminSite"
