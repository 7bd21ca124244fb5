"""Checks of the counters that rows keep of other rows."""

from django.db import models


class CounterCheck(models.Model):
    """One pass over all counters of rounds and assignments: what differs from what it counts."""

    checked_at = models.DateTimeField(auto_now_add=True)
    num_checked = models.PositiveIntegerField(help_text="Rounds and assignments.")
    drift = models.JSONField(
        default=list,
        blank=True,
        help_text="A counter that differs each: what, name, counter, stored, counted.",
    )

    def __str__(self) -> str:
        return f"check of {self.checked_at:%Y-%m-%d %H:%M}"
