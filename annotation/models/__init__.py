"""Models of annotation."""

from annotation.models.comparisons import (
    Comparison,
    Draft,
    Exclusion,
    Judgement,
    Sample,
    SamplingEvent,
)
from annotation.models.consents import Consent, ConsentDocument, GuidelinesConfirmation, Withdrawal
from annotation.models.dialogues import Dialogue
from annotation.models.people import User
from annotation.models.qualifications import (
    Answer,
    Attempt,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Sitting,
)
from annotation.models.rounds import Guidelines, Round, RoundVariant
from annotation.models.wellbeing import (
    CategoryOptOut,
    ContentCategory,
    ContentWarning,
    WellbeingPolicy,
    WellbeingSettings,
)

__all__ = [
    "Answer",
    "Attempt",
    "CategoryOptOut",
    "Comparison",
    "Consent",
    "ConsentDocument",
    "ContentCategory",
    "ContentWarning",
    "Dialogue",
    "Draft",
    "Exclusion",
    "Guidelines",
    "GuidelinesConfirmation",
    "Judgement",
    "Qualification",
    "QualificationPart",
    "QualificationQuestion",
    "Requirement",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "Sitting",
    "User",
    "WellbeingPolicy",
    "WellbeingSettings",
    "Withdrawal",
]
