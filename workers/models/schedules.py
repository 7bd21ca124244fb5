"""The schedule by which beat starts iterations."""

from django.db import models
from django.db.models import Q


class IterationSchedule(models.Model):
    """Starts an iteration every so many hours from what was judged since the last one."""

    name = models.CharField(max_length=40)
    is_enabled = models.BooleanField(default=True)
    every_hours = models.PositiveIntegerField(default=168, help_text="168 is once a week.")
    next_start_at = models.DateTimeField(help_text="When the next iteration is due, in UTC.")
    config = models.JSONField(
        default=dict,
        blank=True,
        help_text="Template of the iteration's config; its rounds are filled in at the start.",
    )
    closes_rounds = models.BooleanField(
        default=True, help_text="Close the open rounds first, so that each is learned from whole."
    )
    base_policy = models.ForeignKey(
        "registry.PolicyVersion",
        on_delete=models.PROTECT,
        related_name="schedules",
        help_text="Iterations fine-tune it, or the newest; their evaluation compares with it.",
    )
    last_iteration = models.ForeignKey(
        "registry.Iteration",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="schedules",
    )
    last_outcome = models.TextField(
        blank=True, editable=False, help_text="What the last due time led to, or why to nothing."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="workers_schedule_name_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="workers_schedule_has_name"),
            models.CheckConstraint(
                condition=Q(every_hours__gte=1), name="workers_schedule_every_hours_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.name
