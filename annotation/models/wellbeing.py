"""Well-being: content warnings, what people do not want to see, and how much is enough."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.rounds import Round

MINUTES_OF_A_DAY = 24 * 60


class ContentCategory(models.TextChoices):
    """What a round may contain; the first three are those of arXiv:2307.09288, section 4.2.1."""

    ILLICIT = "illicit_and_criminal"
    HATEFUL = "hateful_and_harmful"
    UNQUALIFIED = "unqualified_advice"
    SELF_HARM = "self_harm"
    VIOLENCE = "violence"
    SEXUAL = "sexually_explicit"


_CATEGORIES = (
    "illicit_and_criminal",
    "hateful_and_harmful",
    "unqualified_advice",
    "self_harm",
    "violence",
    "sexually_explicit",
)


class ContentWarning(models.Model):
    """That a round may contain something of a category."""

    round = models.ForeignKey(
        Round, on_delete=models.PROTECT, related_name="warnings", db_index=False
    )
    category = models.CharField(max_length=20, choices=ContentCategory)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["round", "category"], name="annotation_warning_category_unique"
            ),
            one_of("category", _CATEGORIES, name="annotation_warning_category_known"),
        ]

    def __str__(self) -> str:
        return f"{self.category} in {self.round}"


class CategoryOptOut(models.Model):
    """That an annotator does not want rounds of a category."""

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="opt_outs",
        db_index=False,
    )
    category = models.CharField(max_length=20, choices=ContentCategory)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["annotator", "category"], name="annotation_opt_out_category_unique"
            ),
            one_of("category", _CATEGORIES, name="annotation_opt_out_category_known"),
        ]

    def __str__(self) -> str:
        return f"no {self.category}"


class WellbeingPolicy(models.Model):
    """What the lead set for everybody: one row, or none."""

    daily_minutes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Unsafe work in a day; empty means no bound."
    )
    stretch_minutes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Unsafe work until a break is due; empty means none is."
    )
    break_minutes = models.PositiveSmallIntegerField(default=15)
    support_text = models.TextField(blank=True, help_text="Markdown.")
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="annotation_wellbeing_one_row"),
            models.CheckConstraint(
                condition=(Q(daily_minutes__isnull=True) | Q(daily_minutes__gte=1))
                & (Q(stretch_minutes__isnull=True) | Q(stretch_minutes__gte=1))
                & Q(break_minutes__gte=1, break_minutes__lte=MINUTES_OF_A_DAY),
                name="annotation_wellbeing_bounds_positive",
            ),
        ]

    def __str__(self) -> str:
        return "well-being policy"


class WellbeingSettings(models.Model):
    """What one annotator chose, and the bound a lead set for this person."""

    annotator = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="wellbeing_settings"
    )
    covers_responses = models.BooleanField(
        default=True, help_text="Whether responses of rounds with a warning are covered at first."
    )
    daily_minutes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Takes the place of everybody's bound; empty means that."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(daily_minutes__isnull=True) | Q(daily_minutes__lte=MINUTES_OF_A_DAY),
                name="annotation_wellbeing_minutes_in_a_day",
            ),
        ]

    def __str__(self) -> str:
        return f"settings of {self.annotator.pseudonym}"
