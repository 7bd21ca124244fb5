"""Versions: named weights of policies and of reward models, with what made them."""

from django.db import models
from django.db.models import Q

from records.preferences import Axis
from records.run_configs import GENERAL
from registry.models.artifacts import Artifact
from registry.models.iterations import Iteration
from registry.models.runs import Run

SCOPES = (*(axis.value for axis in Axis), GENERAL)
"""What a reward model may be about."""


class PolicyVersion(models.Model):
    """Named weights of a policy: SFT, V1, V2."""

    name = models.CharField(max_length=80)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="policies")
    run = models.ForeignKey(
        Run, on_delete=models.PROTECT, null=True, blank=True, related_name="policies"
    )
    parent = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="children",
        help_text="The version whose weights the run began from.",
    )
    iteration = models.ForeignKey(
        Iteration, on_delete=models.PROTECT, null=True, blank=True, related_name="policies"
    )
    stage = models.CharField(max_length=20, choices=Iteration.Stage, blank=True)
    promoted_at = models.DateTimeField(null=True, blank=True)
    promoted_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="registry_policy_name_unique"),
            models.UniqueConstraint(
                fields=["run"], condition=Q(run__isnull=False), name="registry_policy_one_per_run"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="registry_policy_has_name"),
        ]
        indexes = [
            models.Index(
                fields=["-promoted_at"],
                condition=Q(promoted_at__isnull=False),
                name="registry_policy_promoted",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_promoted(self) -> bool:
        """Whether it may serve annotators and users."""
        return self.promoted_at is not None


class RewardModelVersion(models.Model):
    """Named weights of a reward model: for one axis, or the general one that only monitors.

    `general` stands beside the axes here and nowhere else: rounds, preferences and score functions
    know two axes, so that what loops over them can never optimise a policy against the monitor.
    """

    name = models.CharField(max_length=80)
    axis = models.CharField(max_length=12, choices=[(scope, scope) for scope in SCOPES])
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="reward_models")
    run = models.ForeignKey(
        Run, on_delete=models.PROTECT, null=True, blank=True, related_name="reward_models"
    )
    parent = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="children",
        help_text="The version it was compared with.",
    )
    iteration = models.ForeignKey(
        Iteration, on_delete=models.PROTECT, null=True, blank=True, related_name="reward_models"
    )
    metrics = models.JSONField(default=dict, help_text="Summary of the run that trained it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["axis", "name"], name="registry_reward_model_name_unique"
            ),
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(run__isnull=False),
                name="registry_reward_model_one_per_run",
            ),
            models.CheckConstraint(
                condition=Q(axis__in=["helpfulness", "safety", "general"]),
                name="registry_reward_model_axis_known",
            ),
            models.CheckConstraint(condition=~Q(name=""), name="registry_reward_model_has_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.axis})"
