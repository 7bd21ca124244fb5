"""`render_responses`: HTML for the responses of open rounds that an earlier version rendered."""

from typing import Any

from django.core.management.base import BaseCommand

from annotation.services import render_responses


class Command(BaseCommand):
    """Render anew; again does nothing."""

    help = "Render the responses of open rounds after an update that changed how they look."

    def handle(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Render, and say how many there were."""
        self.stdout.write(f"{sum(render_responses())} responses rendered")
