"""Models of annotation."""

from annotation.models.blind_checks import BlindCheck, BlindPair, BlindVerdict
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
from annotation.models.reviews import Correction, ReviewDecision, ReviewItem
from annotation.models.rounds import Guidelines, Round, RoundVariant

__all__ = [
    "Assignment",
    "BlindCheck",
    "BlindPair",
    "BlindVerdict",
    "Comparison",
    "Correction",
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
    "ReviewDecision",
    "ReviewItem",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "User",
]
