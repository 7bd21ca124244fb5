"""Iterations: one turn of the loop from preferences to a promoted policy."""

from django.db import models
from django.db.models import Q


class Iteration(models.Model):
    """One turn of the loop: snapshot, reward models, rejection sampling, PPO, evaluation."""

    class State(models.TextChoices):
        """Where an iteration stands; `stopped` means a gate or a person ended it."""

        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"
        STOPPED = "stopped"

    class Stage(models.TextChoices):
        """What an iteration does now, in this order."""

        SNAPSHOT = "snapshot"
        REWARD_MODELS = "reward_models"
        REJECTION_SAMPLING = "rejection_sampling"
        PPO = "ppo"
        EVALUATION = "evaluation"
        PROMOTION = "promotion"
        DONE = "done"

    number = models.PositiveIntegerField()
    name = models.CharField(max_length=40, help_text="Name of the policy version to be: V1, V2.")
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    stage = models.CharField(max_length=20, choices=Stage, default=Stage.SNAPSHOT)
    config = models.JSONField(default=dict)
    base_policy = models.ForeignKey(
        "registry.PolicyVersion",
        on_delete=models.PROTECT,
        related_name="iterations_based_on",
        help_text="Rejection sampling fine-tunes this version, or goes on from the newest.",
    )
    start_policy = models.ForeignKey(
        "registry.PolicyVersion",
        on_delete=models.PROTECT,
        related_name="iterations_started_from",
        help_text="Responses are sampled from this version, the newest.",
    )
    previous_policy = models.ForeignKey(
        "registry.PolicyVersion",
        on_delete=models.PROTECT,
        related_name="iterations_compared_with",
        help_text="The candidate is compared with this version.",
    )
    snapshot = models.ForeignKey(
        "registry.Snapshot",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="iterations",
    )
    error = models.TextField(blank=True, help_text="Why it failed or was stopped.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["number"], name="registry_iteration_number_unique"),
            models.UniqueConstraint(fields=["name"], name="registry_iteration_name_unique"),
            # A schedule that ticks twice starts one iteration.
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state="running"),
                name="registry_iteration_one_running",
            ),
            models.CheckConstraint(
                condition=Q(state="running", finished_at__isnull=True)
                | Q(state__in=["finished", "failed", "stopped"], finished_at__isnull=False),
                name="registry_iteration_ended_has_time",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state == self.State.RUNNING
