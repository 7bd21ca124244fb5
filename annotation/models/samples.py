"""Samples: the two responses of a comparison in a stored order, and pairs that were no use."""

from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.comparisons import Comparison
from annotation.scale import Side
from registry.models import PolicyVersion

SIDE_CHOICES = [(side.value, side.value) for side in Side]


class Sample(models.Model):
    """One response to a comparison's prompt; never changed. The side was drawn when stored.

    Only its rendering may be made anew (`annotation.rendering`).
    """

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="samples", db_index=False
    )
    side = models.CharField(max_length=5, choices=SIDE_CHOICES)
    text = models.TextField()
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="samples")
    temperature = models.FloatField()
    top_p = models.FloatField()
    seed = models.BigIntegerField()
    num_tokens = models.PositiveIntegerField()
    is_finished = models.BooleanField(help_text="False where the token limit cut it short.")
    html = models.TextField(
        blank=True, default="", db_default="", help_text="The text, rendered and sanitised."
    )
    renderer = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text="What made the HTML; where it is not the renderer in use, the text is shown.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "side"], name="annotation_sample_side_unique"
            ),
            # The target of the composite foreign key of judgements.
            models.UniqueConstraint(
                fields=["id", "comparison", "side"], name="annotation_sample_of_comparison"
            ),
            one_of("side", Side, name="annotation_sample_side_known"),
            models.CheckConstraint(condition=~Q(text=""), name="annotation_sample_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.side} of comparison {self.comparison_id}"


class SamplingEvent(models.Model):
    """A pair of responses that could not be used, and why."""

    class Reason(models.TextChoices):
        """What was wrong."""

        EMPTY = "empty"
        IDENTICAL = "identical"
        NEAR_IDENTICAL = "near_identical"
        TRUNCATED = "truncated"
        HOLDS_TAG = "holds_tag"
        NAMES_ITSELF = "names_itself"
        REPLACED = "replaced"
        ERROR = "error"

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="sampling_events"
    )
    attempt = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=14, choices=Reason)
    detail = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.reason} at attempt {self.attempt}"
