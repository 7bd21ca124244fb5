"""Comparisons: one turn of a dialogue, from its prompt to its judgement."""

import secrets

from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotation.models.checks import one_of
from annotation.models.dialogues import Dialogue
from annotation.models.rounds import Round


def new_seed() -> int:
    """Return a seed that nobody outside the server can guess."""
    return secrets.randbelow(2**31)


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    """Filters of comparisons."""

    def to_sample(self) -> "ComparisonQuerySet":
        """Comparisons whose responses are not there yet, whoever works on them."""
        return self.filter(state__in=[Comparison.State.WAITING, Comparison.State.SAMPLING])

    def live(self) -> "ComparisonQuerySet":
        """Comparisons that are neither judged nor given up, nor drawn ahead."""
        return self.filter(state__in=Comparison.LIVE_STATES, is_ahead=False)

    def holding(self) -> "ComparisonQuerySet":
        """Comparisons not judged that are counted as in somebody's hands, kept ones included."""
        return self.filter(state__in=Comparison.LIVE_STATES, holds_slot=True)

    def ahead(self) -> "ComparisonQuerySet":
        """Comparisons drawn ahead that may still be shown."""
        return self.filter(state__in=Comparison.LIVE_STATES, is_ahead=True)

    def discard(self, reason: str) -> int:
        """Have those that are neither judged nor given up never shown; return how many."""
        return self.filter(state__in=Comparison.LIVE_STATES).update(
            state=Comparison.State.DISCARDED,
            discard_reason=reason,
            holds_slot=False,
            sampling_expires_at=None,
        )


class Comparison(models.Model):
    """One turn of a dialogue: the prompt as the annotator wrote it, and its way to a judgement."""

    class State(models.TextChoices):
        """Where a comparison stands."""

        WAITING = "waiting"
        SAMPLING = "sampling"
        READY = "ready"
        JUDGED = "judged"
        SKIPPED = "skipped"
        FAILED = "failed"
        DISCARDED = "discarded"

    LIVE_STATES = (State.WAITING, State.SAMPLING, State.READY)

    class SkipReason(models.TextChoices):
        """Why an annotator passes on."""

        NOT_MY_LANGUAGE = "not_my_language"
        NO_EXPERTISE = "no_expertise"
        TOO_DISTURBING = "too_disturbing"
        BOTH_FAILED = "both_failed"
        OTHER = "other"

    class DiscardReason(models.TextChoices):
        """Why a pair that nobody judged is not shown any more."""

        OTHER_CHOICE = "other_choice"
        EDITED = "edited"
        REPLACED = "replaced"
        NO_PAIR = "no_pair"
        ENDED = "ended"
        GIVEN_AWAY = "given_away"

    class RiskCategory(models.TextChoices):
        """What an adversarial prompt aims at (arXiv:2307.09288, section 4.2.1)."""

        ILLICIT = "illicit_and_criminal"
        HATEFUL = "hateful_and_harmful"
        UNQUALIFIED = "unqualified_advice"

    class AttackVector(models.TextChoices):
        """How an adversarial prompt tries (arXiv:2307.09288, section 4.2.1)."""

        PSYCHOLOGICAL = "psychological_manipulation"
        LOGIC = "logic_manipulation"
        SYNTACTIC = "syntactic_manipulation"
        SEMANTIC = "semantic_manipulation"
        PERSPECTIVE = "perspective_manipulation"
        NON_ENGLISH = "non_english"
        OTHER = "other"

    dialogue = models.ForeignKey(Dialogue, on_delete=models.PROTECT, related_name="comparisons")
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="comparisons")
    turn = models.PositiveSmallIntegerField(help_text="0 for the first prompt of the dialogue.")
    prompt_text = models.TextField()
    risk_category = models.CharField(max_length=30, choices=RiskCategory, blank=True)
    attack_vector = models.CharField(max_length=30, choices=AttackVector, blank=True)
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    is_ahead = models.BooleanField(
        default=False, help_text="Drawn before anybody waits for it; counted nowhere."
    )
    assumed_sample = models.ForeignKey(
        "annotation.Sample",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="The response of the turn before that was taken as chosen.",
    )
    seed = models.BigIntegerField(
        default=new_seed, help_text="Decides variants, temperatures and sides."
    )

    sampling_attempts = models.PositiveSmallIntegerField(default=0)
    sampled_by = models.CharField(max_length=200, blank=True)
    sampling_expires_at = models.DateTimeField(null=True, blank=True)

    holds_slot = models.BooleanField(default=True, help_text="Counted in the round's target.")
    lease_expires_at = models.DateTimeField(help_text="Until when the slot is kept for the author.")

    num_slots = models.PositiveSmallIntegerField(
        default=1, help_text="Judgements wanted so far, the author's included: numbers the next."
    )
    is_flagged = models.BooleanField(default=False)
    flag_note = models.TextField(blank=True)
    skip_reason = models.CharField(max_length=20, choices=SkipReason, blank=True)
    skip_note = models.TextField(blank=True)
    discard_reason = models.CharField(max_length=12, choices=DiscardReason, blank=True)
    error = models.TextField(blank=True, help_text="Why no pair of responses came about.")
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(
        null=True, blank=True, help_text="From when its pair is shown: quick pairs wait a little."
    )

    objects = models.Manager.from_queryset(ComparisonQuerySet)()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client_key"], name="annotation_comparison_key_unique"),
            # A skipped or failed turn may be written again; otherwise a turn has one comparison.
            models.UniqueConstraint(
                fields=["dialogue", "turn"],
                condition=~Q(state__in=["skipped", "failed", "discarded"]) & Q(is_ahead=False),
                name="annotation_comparison_one_per_turn",
            ),
            one_of(
                "state",
                ("waiting", "sampling", "ready", "judged", "skipped", "failed", "discarded"),
                name="annotation_comparison_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(prompt_text=""), name="annotation_comparison_has_prompt"
            ),
            models.CheckConstraint(
                condition=Q(state="sampling") ^ Q(sampling_expires_at__isnull=True),
                name="annotation_comparison_sampling_is_leased",
            ),
            models.CheckConstraint(
                condition=~Q(state="judged") | Q(holds_slot=True),
                name="annotation_comparison_judged_holds_slot",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["skipped", "failed", "discarded"]) | Q(holds_slot=False),
                name="annotation_comparison_given_up_is_free",
            ),
            models.CheckConstraint(
                condition=Q(state="skipped") ^ Q(skip_reason=""),
                name="annotation_comparison_skip_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(state="discarded") ^ Q(discard_reason=""),
                name="annotation_comparison_discard_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(is_ahead=False)
                | Q(state__in=["waiting", "sampling", "ready", "discarded"]),
                name="annotation_comparison_ahead_not_judged",
            ),
        ]
        indexes = [
            # The sampler's queue: only what is still without responses; what somebody waits for
            # comes first.
            models.Index(
                fields=["is_ahead", "id"],
                condition=Q(state__in=["waiting", "sampling"]),
                name="annotation_comparison_queue",
            ),
            # Leases that may lapse: only slots held and not judged.
            models.Index(
                fields=["round", "lease_expires_at"],
                condition=Q(holds_slot=True) & ~Q(state="judged"),
                name="annotation_comparison_leases",
            ),
            models.Index(
                fields=["round", "id"],
                condition=Q(is_flagged=True),
                name="annotation_comparison_flagged",
            ),
            # What was passed on as too disturbing in a span of days: few rows of all.
            models.Index(
                fields=["created_at"],
                condition=Q(skip_reason="too_disturbing"),
                name="annotation_pair_disturbing",
            ),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk}"

    @property
    def is_shown(self) -> bool:
        """Whether its pair stands before its author: ready, and not sooner than any other."""
        return (
            self.state == self.State.READY
            and not self.is_ahead
            and self.ready_at is not None
            and self.ready_at <= timezone.now()
        )

    @property
    def is_live(self) -> bool:
        """Whether it is neither judged nor given up."""
        return self.state in self.LIVE_STATES
