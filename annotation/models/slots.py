"""Slots: further judgements wanted of a comparison, and comparisons whose answer is known."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, FilteredRelation, Q
from django.utils import timezone

from annotation.models.checks import one_of
from annotation.models.comparisons import Comparison
from annotation.models.judgements import SAFETY_CHOICES
from annotation.models.kinds import COUNTED_KINDS, SILENT_KINDS, JudgementKind
from annotation.models.rounds import Round
from annotation.models.samples import SIDE_CHOICES, Sample
from records.preferences import SafetyBin

SLOT_KINDS = [(k.value, k.value) for k in JudgementKind if k is not JudgementKind.AUTHOR]


class SlotQuerySet(models.QuerySet["Slot"]):
    """Filters of slots."""

    def with_pair(self) -> "SlotQuerySet":
        """Slots with their comparison, dialogue, round and both responses, in one query."""
        return self._with_samples("id", "text", "html", "renderer").select_related(
            "comparison__dialogue", "round"
        )

    def with_what_is_shown(self) -> "SlotQuerySet":
        """The columns of `with_pair` that the page of a pair shows, but for the round's.

        Each column of a row costs the web process as much as a short statement costs the server;
        a field left out is read when it is asked for.
        """
        comparison = ("turn", "prompt_text", "dialogue", "round", "is_ahead", "is_flagged")
        dialogue = ("opening", "system_prompt", "num_turns", "max_turns", "item")
        return (
            self._with_samples("id", "text", "html", "renderer")
            .select_related("comparison__dialogue")
            .only(
                *("comparison", "round", "number", "kind", "state", "annotator"),
                *(f"comparison__{name}" for name in comparison),
                *(f"comparison__dialogue__{name}" for name in dialogue),
            )
        )

    def with_what_is_judged(self) -> "SlotQuerySet":
        """The columns of `with_pair` that storing a judgement takes; see `with_what_is_shown`."""
        return (
            self._with_samples("id")
            .select_related("comparison", "round")
            .only(
                *("comparison", "round", "number", "kind", "state", "annotator"),
                *("comparison__id", "round__axis", "round__guidelines"),
            )
        )

    def _with_samples(self, *fields: str) -> "SlotQuerySet":
        """Slots with fields of both samples, named by the side they stand on."""
        sides: dict[str, Any] = {}
        for side in ("left", "right"):
            condition = Q(comparison__samples__side=side)
            name = f"shown_{side}"  # a bare "left" is a word of SQL
            sides[name] = FilteredRelation("comparison__samples", condition=condition)
            sides |= {f"{side}_{field}": F(f"{name}__{field}") for field in fields}
        return self.annotate(**sides)


class Slot(models.Model):
    """One further judgement wanted of a comparison, for one person who does not know why.

    The author's own judgement has number 0 and no row here. A free slot goes to one annotator under
    a lease; one that lapses is offered again, at the end of the queue.
    """

    class State(models.TextChoices):
        """Where a slot stands."""

        FREE = "free"
        LEASED = "leased"
        JUDGED = "judged"
        WITHDRAWN = "withdrawn"

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="slots", db_index=False
    )
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="slots", db_index=False)
    number = models.PositiveSmallIntegerField(help_text="Counted from 1 within the comparison.")
    kind = models.CharField(max_length=15, choices=SLOT_KINDS)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        help_text="Who wrote the prompt; never gets it back except as a repeat.",
    )
    state = models.CharField(max_length=9, choices=State, default=State.FREE)
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="slots",
        db_index=False,
        null=True,
        blank=True,
        help_text="Who holds it, or held it last.",
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    offered_at = models.DateTimeField(default=timezone.now, help_text="Its place in the queue.")

    objects = models.Manager.from_queryset(SlotQuerySet)()

    left_id: int
    left_text: str
    left_html: str
    left_renderer: str
    right_id: int
    right_text: str
    right_html: str
    right_renderer: str
    """The two responses, of slots that `with_pair` and its like have loaded."""
    draft_fields: dict[str, Any] | None
    """What the annotator who asks has typed or ticked, of slots that selectors return."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "number"], name="annotation_slot_number_unique"
            ),
            # An annotator does one thing at a time: two tabs claim one slot.
            models.UniqueConstraint(
                fields=["annotator"],
                condition=Q(state="leased"),
                name="annotation_slot_one_lease_each",
            ),
            one_of("kind", (kind for kind, _ in SLOT_KINDS), name="annotation_slot_kind_known"),
            one_of(
                "state",
                ("free", "leased", "judged", "withdrawn"),
                name="annotation_slot_state_known",
            ),
            models.CheckConstraint(condition=Q(number__gte=1), name="annotation_slot_number_bound"),
            models.CheckConstraint(
                condition=Q(state="leased") ^ Q(lease_expires_at__isnull=True),
                name="annotation_slot_lease_has_end",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["free", "withdrawn"]) | Q(annotator__isnull=False),
                name="annotation_slot_taken_by_somebody",
            ),
            models.CheckConstraint(
                condition=~Q(state="free", kind__in=[kind.value for kind in SILENT_KINDS]),
                name="annotation_slot_silent_never_free",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["leased", "judged"], annotator=F("author"))
                | Q(kind="repeat"),
                name="annotation_slot_not_for_author",
            ),
        ]
        indexes = [
            # The queue: only what is free, in the order of offering.
            models.Index(
                fields=["round", "offered_at", "id"],
                condition=Q(state="free"),
                name="annotation_slot_queue",
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(state="leased"),
                name="annotation_slot_leases",
            ),
            # What was judged and taken back, and goes to others unless it is judged again.
            models.Index(
                fields=["offered_at"],
                condition=Q(state="withdrawn", kind__in=[kind.value for kind in COUNTED_KINDS]),
                name="annotation_slot_taken_back",
            ),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk}"

    @property
    def is_silent(self) -> bool:
        """Whether it measures its annotator and is nobody else's."""
        return self.kind in SILENT_KINDS


class SlotCursor(models.Model):
    """How far one annotator has been through the queue of a round.

    What lies before it was taken, or is not for them (their own prompt, judged or passed on); so a
    claim never looks at the same rows twice in one pass.
    """

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="slot_cursors",
        db_index=False,
    )
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="+", db_index=False)
    offered_at = models.DateTimeField()
    slot_id = models.BigIntegerField(help_text="Among slots offered at the same moment.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["annotator", "round"], name="annotation_cursor_one_per_round"
            ),
        ]

    def __str__(self) -> str:
        return f"cursor of {self.annotator_id} in {self.round_id}"


class SlotSkip(models.Model):
    """A pair that somebody was asked about and passed on; they are not asked again."""

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="slot_skips", db_index=False
    )
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="slot_skips",
        db_index=False,
    )
    kind = models.CharField(max_length=15, choices=SLOT_KINDS)
    reason = models.CharField(max_length=20, choices=Comparison.SkipReason)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator"], name="annotation_skip_once_each"
            ),
            one_of(
                "reason",
                ("not_my_language", "no_expertise", "too_disturbing", "both_failed", "other"),
                name="annotation_skip_reason_known",
            ),
        ]
        indexes = [
            # What was passed on as too disturbing in a span of days: few rows of all.
            models.Index(
                fields=["created_at"],
                condition=Q(reason="too_disturbing"),
                name="annotation_skip_disturbing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} of comparison {self.comparison_id}"


class GoldComparison(models.Model):
    """A comparison whose answer is known: put silently before annotators to measure them.

    The database also holds a composite foreign key: the expected sample belongs to this comparison
    and stands on this side.
    """

    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="golds", db_index=False
    )
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="golds", db_index=False)
    expected_sample = models.ForeignKey(
        Sample, on_delete=models.PROTECT, related_name="expected_in", db_index=False
    )
    expected_side = models.CharField(max_length=5, choices=SIDE_CHOICES)
    expected_bin = models.CharField(max_length=12, choices=SAFETY_CHOICES, blank=True)
    note = models.TextField(blank=True, help_text="Why this answer is the right one.")
    declared_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="golds_declared"
    )
    declared_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True, help_text="No longer served.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison"], name="annotation_gold_one_per_comparison"
            ),
            one_of(
                "expected_bin",
                ("", *(value.value for value in SafetyBin)),
                name="annotation_gold_bin_known",
            ),
        ]
        indexes = [
            models.Index(
                fields=["round"],
                condition=Q(retired_at__isnull=True),
                name="annotation_gold_served",
            ),
        ]

    def __str__(self) -> str:
        return f"gold of comparison {self.comparison_id}"
