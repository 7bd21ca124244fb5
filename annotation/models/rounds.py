"""Rounds: one campaign of annotation, its guidelines and the policy versions that answer."""

from collections.abc import Sequence

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from annotation.models.checks import AXIS_CHOICES, one_of
from registry.models import PolicyVersion


class Guidelines(models.Model):
    """One version of what annotators are told for an axis; never changed, only superseded."""

    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    version = models.CharField(max_length=20)
    text = models.TextField(help_text="Markdown.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="guidelines_written"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "guidelines"
        constraints = [
            models.UniqueConstraint(
                fields=["axis", "version"], name="annotation_guidelines_version_unique"
            ),
            one_of("axis", (a for a, _ in AXIS_CHOICES), name="annotation_guidelines_axis_known"),
            models.CheckConstraint(
                condition=~Q(version="") & ~Q(text=""), name="annotation_guidelines_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.axis} {self.version}"


class RoundQuerySet(models.QuerySet["Round"]):
    """Filters of rounds."""

    def open(self) -> "RoundQuerySet":
        """Rounds that take work."""
        return self.filter(state=Round.State.OPEN)


class Round(models.Model):
    """One campaign of annotation on one axis.

    The counters are changed in the same transaction as the rows they count, with the bound
    in the WHERE clause: no round ever holds more comparisons than its target, and progress costs
    one row however many comparisons there are.
    """

    class State(models.TextChoices):
        """Whether a round takes work."""

        OPEN = "open"
        CLOSED = "closed"

    class Source(models.TextChoices):
        """Where its prompts come from."""

        WRITTEN = "written", "Written by annotators"
        PROMPTS = "prompts", "Imported prompts"
        PAIRS = "pairs", "Imported pairs of responses"

    name = models.CharField(max_length=80)
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    source = models.CharField(max_length=7, choices=Source, default=Source.WRITTEN)
    guidelines = models.ForeignKey(Guidelines, on_delete=models.PROTECT, related_name="rounds")
    target_comparisons = models.PositiveIntegerField()
    max_turns = models.PositiveSmallIntegerField(help_text="Comparisons in one dialogue, at most.")
    min_turns = models.PositiveSmallIntegerField(
        default=1, help_text="Before a dialogue may end, unless its pair is passed on."
    )
    system_prompt = models.TextField(blank=True, help_text="What both policies are told first.")
    topic = models.CharField(max_length=200, blank=True, help_text="What to write about.")
    goal = models.TextField(blank=True, help_text="What a dialogue should try to achieve.")
    good_examples = models.TextField(blank=True, help_text="Good first prompts, one a line.")
    bad_examples = models.TextField(blank=True, help_text="Bad first prompts, one a line.")
    num_reserved = models.PositiveIntegerField(
        default=0, help_text="Comparisons judged or in somebody's hands."
    )
    num_judged = models.PositiveIntegerField(default=0)
    overlap_share = models.FloatField(
        default=0.0, help_text="Share of comparisons that several people judge."
    )
    judgements_per_comparison = models.PositiveSmallIntegerField(
        default=1, help_text="How many people judge such a comparison in all, its author included."
    )
    gold_share = models.FloatField(
        default=0.0, help_text="Share of tasks that are comparisons whose answer is known."
    )
    repeat_share = models.FloatField(
        default=0.0, help_text="Share of tasks that repeat a judgement of the annotator's own."
    )
    repeat_after = models.PositiveIntegerField(
        default=50, help_text="Judgements that lie between a judgement and its repeat, at least."
    )
    num_further = models.PositiveIntegerField(
        default=0, help_text="Further judgements wanted: overlap and second readings."
    )
    num_further_judged = models.PositiveIntegerField(default=0)
    num_excluded = models.PositiveIntegerField(default=0)
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="rounds_opened"
    )
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(RoundQuerySet)()

    declared: Sequence[str] | None = None
    """Categories of its content warnings, where whoever loaded it asked for them; else None."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="annotation_round_name_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="annotation_round_has_name"),
            one_of("axis", (a for a, _ in AXIS_CHOICES), name="annotation_round_axis_known"),
            one_of("source", ("written", "prompts", "pairs"), name="annotation_round_source_known"),
            models.CheckConstraint(
                condition=Q(state="open") ^ Q(closed_at__isnull=False),
                name="annotation_round_closed_has_time",
            ),
            models.CheckConstraint(
                condition=Q(target_comparisons__gte=1, max_turns__gte=1)
                & Q(min_turns__gte=1, min_turns__lte=F("max_turns")),
                name="annotation_round_targets_positive",
            ),
            models.CheckConstraint(
                condition=Q(num_reserved__lte=F("target_comparisons")),
                name="annotation_round_within_target",
            ),
            models.CheckConstraint(
                condition=Q(num_judged__lte=F("num_reserved"))
                & Q(num_excluded__lte=F("num_judged")),
                name="annotation_round_counters_nested",
            ),
            models.CheckConstraint(
                condition=Q(num_further_judged__lte=F("num_further")),
                name="annotation_round_further_nested",
            ),
            models.CheckConstraint(
                condition=Q(overlap_share__gte=0.0, overlap_share__lte=1.0)
                & Q(gold_share__gte=0.0, repeat_share__gte=0.0)
                & Q(gold_share__lte=1.0 - F("repeat_share")),
                name="annotation_round_shares_are_shares",
            ),
            models.CheckConstraint(
                condition=Q(judgements_per_comparison__gte=2)
                | Q(judgements_per_comparison=1, overlap_share=0.0),
                name="annotation_round_overlap_has_people",
            ),
        ]
        indexes = [
            models.Index(
                fields=["opened_at"], condition=Q(state="open"), name="annotation_round_open"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        """Whether it takes work."""
        return self.state == self.State.OPEN

    @property
    def is_imported(self) -> bool:
        """Whether its prompts come from a file instead of its annotators."""
        return self.source != self.Source.WRITTEN

    @property
    def has_further(self) -> bool:
        """Whether it was opened to have pairs judged that their judge did not write."""
        return self.overlap_share + self.gold_share + self.repeat_share > 0.0


class RoundVariant(models.Model):
    """A policy version that answers in a round, with its sampling settings."""

    round = models.ForeignKey(
        Round, on_delete=models.PROTECT, related_name="variants", db_index=False
    )
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="variants")
    temperature_low = models.FloatField()
    temperature_high = models.FloatField()
    top_p = models.FloatField(default=1.0)
    max_new_tokens = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["round", "policy"], name="annotation_variant_policy_unique"
            ),
            models.CheckConstraint(
                condition=Q(temperature_low__gte=0.0)
                & Q(temperature_high__gte=F("temperature_low"))
                & Q(temperature_high__lte=5.0),
                name="annotation_variant_temperatures_ordered",
            ),
            models.CheckConstraint(
                condition=Q(top_p__gt=0.0, top_p__lte=1.0), name="annotation_variant_top_p_is_share"
            ),
            models.CheckConstraint(
                condition=Q(max_new_tokens__gte=1), name="annotation_variant_tokens_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} in {self.round}"
