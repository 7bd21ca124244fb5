"""Numbers on the quality of judgements, as last worked out, with when."""

from django.db import models
from django.db.models import Q

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.rounds import Guidelines, Round


class QualityReport(models.Model):
    """The figures of one round, one version of the guidelines, or one axis; replaced when anew.

    They are read from all judgements, so a page shows what was kept here and says from when it is.
    """

    round = models.OneToOneField(
        Round, on_delete=models.CASCADE, null=True, blank=True, related_name="quality"
    )
    guidelines = models.OneToOneField(
        Guidelines, on_delete=models.CASCADE, null=True, blank=True, related_name="quality"
    )
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES, blank=True)
    last_judgement = models.BigIntegerField(help_text="The newest judgement counted, by its id.")
    num_judgements = models.PositiveIntegerField()
    figures = models.JSONField(help_text="As `annotation.quality.measuring.Figures` writes them.")
    measured_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(round__isnull=False, guidelines__isnull=True, axis="")
                | Q(round__isnull=True, guidelines__isnull=False, axis="")
                | (Q(round__isnull=True, guidelines__isnull=True) & ~Q(axis="")),
                name="annotation_quality_of_one_thing",
            ),
            models.UniqueConstraint(
                fields=["axis"], condition=~Q(axis=""), name="annotation_quality_one_per_axis"
            ),
            one_of(
                "axis", ("", *(axis for axis, _ in AXIS_CHOICES)), name="annotation_quality_axis"
            ),
        ]

    def __str__(self) -> str:
        return f"quality of {self.round or self.guidelines or self.axis}"
