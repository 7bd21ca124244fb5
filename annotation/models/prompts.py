"""What finds prompts that are nearly the same."""

from django.db import models

from annotation.models.comparisons import Comparison
from annotation.models.rounds import Round


class PromptBand(models.Model):
    """One of the numbers that a first prompt shares with prompts much like it (MinHash)."""

    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="+", db_index=False)
    comparison = models.ForeignKey(
        Comparison, on_delete=models.PROTECT, related_name="bands", db_index=False
    )
    value = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["round", "value"], name="annotation_band_lookup"),
        ]

    def __str__(self) -> str:
        return f"band of comparison {self.comparison_id}"
