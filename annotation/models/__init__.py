"""Models of annotation."""

from annotation.models.comparisons import (
    Comparison,
    Draft,
    Exclusion,
    Judgement,
    Sample,
    SamplingEvent,
)
from annotation.models.dialogues import Dialogue
from annotation.models.people import User
from annotation.models.quality import QualityReport
from annotation.models.rounds import Guidelines, Round, RoundVariant

__all__ = [
    "Comparison",
    "Dialogue",
    "Draft",
    "Exclusion",
    "Guidelines",
    "Judgement",
    "QualityReport",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "User",
]
