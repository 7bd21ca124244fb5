"""Retractions: an annotator takes back what they said last; both records stay."""

from django.db import models
from django.db.models import Q

from annotation.models.judgements import Judgement


class Retraction(models.Model):
    """An annotator took the judgement back that they had made last.

    While it is active the judgement counts nowhere and its pair is to be judged again. Where the
    annotator lets the judgement stand after all, `ended_at` says when.
    """

    judgement = models.ForeignKey(Judgement, on_delete=models.PROTECT, related_name="retractions")
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    is_active = models.BooleanField(
        default=True, help_text="False once the judgement stands again."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client_key"], name="annotation_retraction_key_unique"),
            models.UniqueConstraint(
                fields=["judgement"],
                condition=Q(is_active=True),
                name="annotation_retraction_one_active",
            ),
            models.CheckConstraint(
                condition=Q(is_active=True) ^ Q(ended_at__isnull=False),
                name="annotation_retraction_ended_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"retraction of judgement {self.judgement_id}"
