"""Judgements: what one person said of a comparison, and what must not be learned from."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.comparisons import Comparison
from annotation.models.kinds import JudgementKind
from annotation.models.rounds import Guidelines
from annotation.models.samples import SIDE_CHOICES, Sample
from records.preferences import Rating, SafetyBin

RATING_CHOICES = [(rating.value, rating.value.replace("_", " ")) for rating in Rating]
SAFETY_CHOICES = [(value.value, value.value.replace("_", " ")) for value in SafetyBin]


class StandingJudgements(models.Manager["Judgement"]):
    """Judgements that their annotators have not taken back: what everybody counts and learns."""

    def get_queryset(self) -> models.QuerySet["Judgement"]:
        """Leave out what is taken back."""
        return super().get_queryset().filter(is_retracted=False)


class Judgement(models.Model):
    """Which response one annotator chose, and by how much; never changed.

    Only `is_retracted` follows the records of taking it back (`Retraction`). The database also
    holds a composite foreign key: the chosen sample belongs to this comparison and was shown on
    this side.
    """

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="judgements", db_index=False
    )
    slot = models.PositiveSmallIntegerField(
        default=0, help_text="Which of the comparison's judgements this is; 0 is its author's."
    )
    kind = models.CharField(
        max_length=15, choices=JudgementKind, default=JudgementKind.AUTHOR, help_text="Why asked."
    )
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="judgements",
        db_index=False,
    )
    chosen_sample = models.ForeignKey(Sample, on_delete=models.PROTECT, related_name="chosen_in")
    displayed_side = models.CharField(max_length=5, choices=SIDE_CHOICES)
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    rating = models.CharField(max_length=20, choices=RATING_CHOICES)
    safety_bin = models.CharField(max_length=12, choices=SAFETY_CHOICES, blank=True)
    guidelines = models.ForeignKey(Guidelines, on_delete=models.PROTECT, related_name="judgements")
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    active_seconds = models.FloatField(help_text="Time the page was in front and used.")
    neither_reasons = models.JSONField(
        default=list, blank=True, help_text="Why neither response is acceptable; empty if one is."
    )
    neither_note = models.TextField(blank=True)
    is_retracted = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Taken back by its annotator; another one may stand in its place.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    with_retracted = models.Manager()
    objects = StandingJudgements()

    class Meta:
        base_manager_name = "with_retracted"
        default_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_judgement_uuid_unique"),
            models.UniqueConstraint(
                fields=["comparison", "slot"],
                condition=Q(is_retracted=False),
                name="annotation_judgement_slot_unique",
            ),
            models.UniqueConstraint(fields=["client_key"], name="annotation_judgement_key_unique"),
            # Nobody judges a comparison twice, except as a silent repeat, and that once; what is
            # taken back makes room.
            models.UniqueConstraint(
                fields=["comparison", "annotator"],
                condition=~Q(kind="repeat") & Q(is_retracted=False),
                name="annotation_judgement_once_each",
            ),
            models.UniqueConstraint(
                fields=["comparison", "annotator"],
                condition=Q(kind="repeat", is_retracted=False),
                name="annotation_judgement_repeated_once",
            ),
            one_of("kind", JudgementKind.values, name="annotation_judgement_kind_known"),
            models.CheckConstraint(
                condition=Q(slot=0) ^ ~Q(kind="author"), name="annotation_judgement_author_is_first"
            ),
            one_of("rating", Rating, name="annotation_judgement_rating_known"),
            models.CheckConstraint(
                condition=Q(axis="safety", safety_bin__in=[value.value for value in SafetyBin])
                | Q(axis="helpfulness", safety_bin=""),
                name="annotation_judgement_bin_fits_axis",
            ),
            models.CheckConstraint(
                condition=Q(active_seconds__gte=0.0), name="annotation_judgement_time_not_negative"
            ),
        ]
        indexes = [
            # All of a comparison, taken back or not: the unique indexes hold what stands.
            models.Index(fields=["comparison", "annotator"], name="annotation_judgement_of_pair"),
            models.Index(fields=["annotator", "-id"], name="annotation_judgement_mine"),
            # How long somebody has seen unsafe texts today.
            models.Index(fields=["annotator", "created_at"], name="annotation_judgement_of_day"),
        ]

    def __str__(self) -> str:
        return f"judgement {self.uuid}"


class Exclusion(models.Model):
    """A reviewer's decision that a judgement must not be learned from; both stay.

    Whether it holds is told by `is_active`: what takes it back is a `ReviewDecision` of its own.
    """

    class Reason(models.TextChoices):
        """Why."""

        AGAINST_GUIDELINES = "against_guidelines"
        LOW_QUALITY = "low_quality"
        PERSONAL_DATA = "personal_data"
        SPAM = "spam"
        OTHER = "other"

    judgement = models.ForeignKey(Judgement, on_delete=models.PROTECT, related_name="exclusions")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="exclusions_made"
    )
    reason = models.CharField(max_length=20, choices=Reason)
    note = models.TextField(blank=True)
    is_active = models.BooleanField(default=True, help_text="False once it is taken back.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["judgement"],
                condition=Q(is_active=True),
                name="annotation_exclusion_one_active",
            ),
            one_of(
                "reason",
                ("against_guidelines", "low_quality", "personal_data", "spam", "other"),
                name="annotation_exclusion_reason_known",
            ),
        ]

    def __str__(self) -> str:
        return f"exclusion of judgement {self.judgement_id}"
