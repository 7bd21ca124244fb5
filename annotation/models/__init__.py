"""Models of annotation."""

from annotation.models.blind_checks import BlindCheck, BlindPair, BlindVerdict
from annotation.models.comparisons import Comparison
from annotation.models.consents import Consent, ConsentDocument, GuidelinesConfirmation, Withdrawal
from annotation.models.counter_checks import CounterCheck
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
from annotation.models.drafts import Draft
from annotation.models.edits import Edit
from annotation.models.item_uploads import ItemUpload
from annotation.models.items import ImportedItem
from annotation.models.judgements import Exclusion, Judgement
from annotation.models.kinds import JudgementKind, UnacceptableReason
from annotation.models.pauses import Pause
from annotation.models.people import User
from annotation.models.prompts import PromptBand
from annotation.models.qualifications import (
    Answer,
    Attempt,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Sitting,
)
from annotation.models.quality import QualityReport
from annotation.models.retractions import Retraction
from annotation.models.reviews import Correction, ReviewDecision, ReviewItem
from annotation.models.rounds import Guidelines, Round, RoundVariant
from annotation.models.samples import Sample, SamplingEvent
from annotation.models.slots import GoldComparison, Slot, SlotCursor, SlotSkip
from annotation.models.wellbeing import (
    CategoryOptOut,
    ContentCategory,
    ContentWarning,
    WellbeingPolicy,
    WellbeingSettings,
)

__all__ = [
    "Answer",
    "Assignment",
    "Attempt",
    "BlindCheck",
    "BlindPair",
    "BlindVerdict",
    "CategoryOptOut",
    "Comparison",
    "Consent",
    "ConsentDocument",
    "ContentCategory",
    "ContentWarning",
    "Correction",
    "CounterCheck",
    "Demonstration",
    "DemonstrationReview",
    "DemonstrationRevision",
    "DemonstrationSet",
    "DemonstrationSetItem",
    "DemonstrationTurn",
    "Dialogue",
    "Draft",
    "Edit",
    "Exclusion",
    "GoldComparison",
    "Guidelines",
    "GuidelinesConfirmation",
    "ImportedItem",
    "ItemUpload",
    "Judgement",
    "JudgementKind",
    "Pause",
    "PromptBand",
    "Qualification",
    "QualificationPart",
    "QualificationQuestion",
    "QualityReport",
    "Requirement",
    "Retraction",
    "ReviewDecision",
    "ReviewItem",
    "Round",
    "RoundVariant",
    "Sample",
    "SamplingEvent",
    "Sitting",
    "Slot",
    "SlotCursor",
    "SlotSkip",
    "UnacceptableReason",
    "User",
    "WellbeingPolicy",
    "WellbeingSettings",
    "Withdrawal",
]
