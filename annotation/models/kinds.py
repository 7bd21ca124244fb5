"""The kinds of judgement: why somebody is asked about a comparison."""

from django.db import models


class JudgementKind(models.TextChoices):
    """Why a comparison is put before an annotator; all kinds look the same on the page."""

    AUTHOR = "author"
    OVERLAP = "overlap"
    GOLD = "gold"
    REPEAT = "repeat"
    SECOND_READING = "second_reading"


class UnacceptableReason(models.TextChoices):
    """Why neither of two responses would do, though one of them is better."""

    UNTRUE = "untrue", "Both say something untrue"
    UNHELPFUL = "unhelpful", "Neither does what was asked"
    HARMFUL = "harmful", "Both do harm"
    LANGUAGE = "language", "Both are badly written, or in the wrong language"
    OTHER = "other", "Another reason"


COUNTED_KINDS = (JudgementKind.OVERLAP, JudgementKind.SECOND_READING)
"""Kinds that anybody may be given: counted as wanted by the round, and kept in snapshots."""
SILENT_KINDS = (JudgementKind.GOLD, JudgementKind.REPEAT)
"""Kinds made for one annotator, to measure them: counted nowhere and left out of snapshots."""
