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
from annotation.models.kinds import JudgementKind
from annotation.models.people import User
from annotation.models.rounds import Guidelines, Round, RoundVariant
from annotation.models.slots import GoldComparison, Slot, SlotCursor, SlotSkip

__all__ = [
    "Comparison",
    "Dialogue",
    "Draft",
    "Exclusion",
    "GoldComparison",
    "Guidelines",
    "Judgement",
    "JudgementKind",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "Slot",
    "SlotCursor",
    "SlotSkip",
    "User",
]
