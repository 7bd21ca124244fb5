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
from annotation.models.edits import Edit
from annotation.models.kinds import JudgementKind, UnacceptableReason
from annotation.models.people import User
from annotation.models.prompts import PromptBand
from annotation.models.quality import QualityReport
from annotation.models.rounds import Guidelines, Round, RoundVariant
from annotation.models.slots import GoldComparison, Slot, SlotCursor, SlotSkip

__all__ = [
    "Comparison",
    "Dialogue",
    "Draft",
    "Edit",
    "Exclusion",
    "GoldComparison",
    "Guidelines",
    "Judgement",
    "JudgementKind",
    "PromptBand",
    "QualityReport",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "Slot",
    "SlotCursor",
    "SlotSkip",
    "UnacceptableReason",
    "User",
]
