"""The registry as a Django app."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """Versions, runs and artifacts."""

    name = "registry"
    verbose_name = "Registry"
