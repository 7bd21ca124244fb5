"""The Celery app: `celery -A workers worker -Q cpu,gpu,sampling`, `celery -A workers beat`."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("concord", include=["workers.tasks", "workers.lifecycle"])
app.config_from_object("django.conf:settings", namespace="CELERY")


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:  # noqa: ANN401 - the signal's own arguments
    """Leave logging as `settings.LOGGING` set it up, in workers and in beat."""
