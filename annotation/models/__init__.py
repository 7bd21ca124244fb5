"""Models of annotation."""

from annotation.models.comparisons import (
    Comparison,
    Draft,
    Exclusion,
    Judgement,
    Sample,
    SamplingEvent,
)
from annotation.models.demonstrations import (
    Assignment,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    DemonstrationSet,
    DemonstrationSetItem,
    DemonstrationTurn,
)
from annotation.models.dialogues import Dialogue
from annotation.models.people import User
from annotation.models.rounds import Guidelines, Round, RoundVariant

__all__ = [
    "Assignment",
    "Comparison",
    "Demonstration",
    "DemonstrationReview",
    "DemonstrationRevision",
    "DemonstrationSet",
    "DemonstrationSetItem",
    "DemonstrationTurn",
    "Dialogue",
    "Draft",
    "Exclusion",
    "Guidelines",
    "Judgement",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "User",
]
