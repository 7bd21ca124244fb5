"""Comparisons: a prompt, two samples in a stored order, and what was judged of them."""

import secrets
import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.dialogues import Dialogue
from annotation.models.kinds import JudgementKind
from annotation.models.rounds import Guidelines, Round
from annotation.scale import Side
from records.preferences import Rating, SafetyBin
from registry.models import PolicyVersion

SIDE_CHOICES = [(side.value, side.value) for side in Side]
RATING_CHOICES = [(rating.value, rating.value.replace("_", " ")) for rating in Rating]
SAFETY_CHOICES = [(value.value, value.value.replace("_", " ")) for value in SafetyBin]


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


class Sample(models.Model):
    """One response to a comparison's prompt; never changed. The side was drawn when stored."""

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
                condition=Q(kind="repeat"),
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
