"""Reviews of comparisons: what waits for a reviewer, and every decision as a record."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.comparisons import Comparison
from annotation.models.judgements import RATING_CHOICES, SAFETY_CHOICES, Exclusion, Judgement
from annotation.models.rounds import Round
from annotation.models.samples import SIDE_CHOICES, Sample
from records.preferences import Rating, SafetyBin

MAX_PRIORITY = 100


class Correction(models.Model):
    """A reviewer's own verdict in place of a judgement, which stays; the newest snapshots use it.

    The database also holds a composite foreign key: the chosen sample belongs to this comparison
    and was shown on this side.
    """

    judgement = models.ForeignKey(Judgement, on_delete=models.PROTECT, related_name="corrections")
    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="corrections")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="corrections_made"
    )
    chosen_sample = models.ForeignKey(Sample, on_delete=models.PROTECT, related_name="corrected_to")
    displayed_side = models.CharField(max_length=5, choices=SIDE_CHOICES)
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    rating = models.CharField(max_length=20, choices=RATING_CHOICES)
    safety_bin = models.CharField(max_length=12, choices=SAFETY_CHOICES, blank=True)
    is_active = models.BooleanField(default=True, help_text="False once it is taken back.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["judgement"],
                condition=Q(is_active=True),
                name="annotation_correction_one_active",
            ),
            one_of("rating", Rating, name="annotation_correction_rating_known"),
            models.CheckConstraint(
                condition=Q(axis="safety", safety_bin__in=[value.value for value in SafetyBin])
                | Q(axis="helpfulness", safety_bin=""),
                name="annotation_correction_bin_fits_axis",
            ),
        ]

    def __str__(self) -> str:
        return f"correction of judgement {self.judgement_id}"


class ReviewDecision(models.Model):
    """One decision of a reviewer on a comparison; taken back by a further row, never changed."""

    class Kind(models.TextChoices):
        """What was decided."""

        ACCEPT = "accept"
        CORRECT = "correct"
        EXCLUDE = "exclude"
        UNCLEAR = "unclear"
        UNDO = "undo"

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="review_decisions"
    )
    judgement = models.ForeignKey(
        Judgement,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="review_decisions",
        help_text="The judgement it is about; none where it is about all of them.",
    )
    kind = models.CharField(max_length=7, choices=Kind)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="review_decisions"
    )
    note = models.TextField(blank=True)
    exclusion = models.OneToOneField(
        Exclusion, on_delete=models.PROTECT, null=True, blank=True, related_name="decision"
    )
    correction = models.OneToOneField(
        Correction, on_delete=models.PROTECT, null=True, blank=True, related_name="decision"
    )
    reverses = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="reversed_by"
    )
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client_key"], name="annotation_review_decision_key_unique"
            ),
            one_of(
                "kind",
                ("accept", "correct", "exclude", "unclear", "undo"),
                name="annotation_review_decision_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(kind="exclude") ^ Q(exclusion__isnull=True),
                name="annotation_review_decision_exclusion",
            ),
            models.CheckConstraint(
                condition=Q(kind="correct") ^ Q(correction__isnull=True),
                name="annotation_review_decision_correction",
            ),
            models.CheckConstraint(
                condition=Q(kind="undo") ^ Q(reverses__isnull=True),
                name="annotation_review_decision_undo",
            ),
            models.CheckConstraint(
                condition=~Q(kind="unclear") | ~Q(note=""),
                name="annotation_review_decision_unclear_says_what",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of comparison {self.comparison_id}"


class ReviewItem(models.Model):
    """A reason why a reviewer should look at a comparison."""

    class Source(models.TextChoices):
        """Who or what asks."""

        FLAG = "flag"
        DISAGREEMENT = "disagreement"
        GOLD_MISS = "gold_miss"
        CONTRADICTION = "contradiction"

    class State(models.TextChoices):
        """Whether somebody has to look; `unclear` waits for a lead."""

        OPEN = "open"
        UNCLEAR = "unclear"
        DECIDED = "decided"

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="review_items", db_index=False
    )
    round = models.ForeignKey(
        Round, on_delete=models.PROTECT, related_name="review_items", db_index=False
    )
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    source = models.CharField(max_length=13, choices=Source)
    priority = models.PositiveSmallIntegerField(help_text="0 to 100; the highest comes first.")
    reason = models.TextField(help_text="What a reviewer should see, in words.")
    state = models.CharField(max_length=7, choices=State, default=State.OPEN)
    decided_by = models.ForeignKey(
        ReviewDecision, on_delete=models.PROTECT, null=True, blank=True, related_name="settled"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "source"], name="annotation_review_item_once_per_source"
            ),
            one_of(
                "source",
                ("flag", "disagreement", "gold_miss", "contradiction"),
                name="annotation_review_item_source_known",
            ),
            one_of("axis", (a for a, _ in AXIS_CHOICES), name="annotation_review_item_axis_known"),
            models.CheckConstraint(
                condition=Q(state="open", decided_by__isnull=True)
                | Q(state__in=["unclear", "decided"], decided_by__isnull=False),
                name="annotation_review_item_settled_by_decision",
            ),
            models.CheckConstraint(
                condition=Q(priority__lte=MAX_PRIORITY), name="annotation_review_item_priority"
            ),
            models.CheckConstraint(
                condition=~Q(reason=""), name="annotation_review_item_has_reason"
            ),
        ]
        # The queue, whole and by each filter: decided items are in none of them.
        indexes = [
            models.Index(
                fields=["state", "-priority", "id"],
                condition=Q(state__in=["open", "unclear"]),
                name="annotation_review_queue",
            ),
            models.Index(
                fields=["source", "state", "-priority", "id"],
                condition=Q(state__in=["open", "unclear"]),
                name="annotation_review_by_source",
            ),
            models.Index(
                fields=["round", "state", "-priority", "id"],
                condition=Q(state__in=["open", "unclear"]),
                name="annotation_review_by_round",
            ),
            models.Index(
                fields=["axis", "state", "-priority", "id"],
                condition=Q(state__in=["open", "unclear"]),
                name="annotation_review_by_axis",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} of comparison {self.comparison_id}"
