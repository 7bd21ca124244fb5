"""Drafts: words and ticks that are kept before anybody submits them."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.comparisons import Comparison
from annotation.models.dialogues import Dialogue


class Draft(models.Model):
    """What a person has typed or ticked and not yet submitted; outlives leases."""

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts"
    )
    dialogue = models.ForeignKey(
        Dialogue, on_delete=models.CASCADE, null=True, blank=True, related_name="drafts"
    )
    comparison = models.ForeignKey(
        Comparison, on_delete=models.CASCADE, null=True, blank=True, related_name="drafts"
    )
    demonstration = models.ForeignKey(
        "annotation.Demonstration",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="drafts",
    )
    fields = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["annotator", "dialogue"],
                condition=Q(dialogue__isnull=False),
                name="annotation_draft_one_per_dialogue",
            ),
            models.UniqueConstraint(
                fields=["annotator", "comparison"],
                condition=Q(comparison__isnull=False),
                name="annotation_draft_one_per_comparison",
            ),
            models.UniqueConstraint(
                fields=["annotator", "demonstration"],
                condition=Q(demonstration__isnull=False),
                name="annotation_draft_one_per_demonstration",
            ),
            models.CheckConstraint(
                condition=Q(
                    dialogue__isnull=False, comparison__isnull=True, demonstration__isnull=True
                )
                | Q(dialogue__isnull=True, comparison__isnull=False, demonstration__isnull=True)
                | Q(dialogue__isnull=True, comparison__isnull=True, demonstration__isnull=False),
                name="annotation_draft_of_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return f"draft {self.pk}"
