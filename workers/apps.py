"""The Django app that holds the workers' one model, the schedule of iterations."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Celery workers and the schedule."""

    name = "workers"
    default_auto_field = "django.db.models.BigAutoField"
