"""Demonstrations, blind checks and reviews in the Django admin: shown, changed by nobody."""

from django.contrib import admin

from annotation.models import (
    Assignment,
    BlindCheck,
    BlindPair,
    BlindVerdict,
    Correction,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    DemonstrationSet,
    DemonstrationSetItem,
    DemonstrationTurn,
    ReviewDecision,
    ReviewItem,
)
from registry.readonly import ReadOnlyAdmin


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    """Assignments."""

    list_display = ("name", "axis", "vendor", "state", "num_approved", "target_demonstrations")
    list_filter = ("axis", "state", "vendor")


@admin.register(Demonstration)
class DemonstrationAdmin(ReadOnlyAdmin):
    """Demonstrations."""

    exclude = ("author",)
    readonly_fields = ("pseudonym",)
    list_display = ("id", "assignment", "pseudonym", "state", "num_revisions", "created_at")
    list_filter = ("state",)
    list_select_related = ("assignment", "author")

    @admin.display(description="Author")
    def pseudonym(self, demonstration: Demonstration) -> str:
        """The author's pseudonym."""
        return demonstration.author.pseudonym


@admin.register(DemonstrationRevision)
class DemonstrationRevisionAdmin(ReadOnlyAdmin):
    """Revisions."""

    exclude = ("written_by",)
    list_display = ("id", "demonstration", "number", "guidelines", "created_at")
    list_select_related = ("demonstration", "guidelines")


@admin.register(DemonstrationTurn)
class DemonstrationTurnAdmin(ReadOnlyAdmin):
    """Exchanges."""

    list_display = ("id", "revision", "turn")
    list_select_related = ("revision",)


@admin.register(DemonstrationReview)
class DemonstrationReviewAdmin(ReadOnlyAdmin):
    """Decisions of reviewers."""

    list_display = ("id", "demonstration", "decision", "reviewer", "created_at")
    list_filter = ("decision",)
    list_select_related = ("demonstration", "reviewer")


@admin.register(DemonstrationSet)
class DemonstrationSetAdmin(ReadOnlyAdmin):
    """Frozen sets."""

    list_display = ("name", "artifact", "frozen_by", "created_at")
    list_select_related = ("artifact", "frozen_by")


@admin.register(DemonstrationSetItem)
class DemonstrationSetItemAdmin(ReadOnlyAdmin):
    """What sets hold."""

    list_display = ("id", "demonstration_set", "revision")
    list_select_related = ("demonstration_set", "revision")


@admin.register(BlindCheck)
class BlindCheckAdmin(ReadOnlyAdmin):
    """Blind checks."""

    list_display = ("name", "policy", "num_pairs", "opened_by", "created_at")
    list_select_related = ("policy", "opened_by")


@admin.register(BlindPair)
class BlindPairAdmin(ReadOnlyAdmin):
    """Pairs of blind checks."""

    list_display = ("id", "check_of", "state", "sampling_attempts")
    list_filter = ("state",)
    list_select_related = ("check_of",)


@admin.register(BlindVerdict)
class BlindVerdictAdmin(ReadOnlyAdmin):
    """Verdicts in blind checks."""

    list_display = ("id", "pair", "outcome", "reviewer", "created_at")
    list_filter = ("outcome",)
    list_select_related = ("pair__check_of", "reviewer")


@admin.register(ReviewItem)
class ReviewItemAdmin(ReadOnlyAdmin):
    """What waits for reviewers."""

    list_display = ("id", "comparison", "source", "priority", "state", "created_at")
    list_filter = ("source", "state")
    list_select_related = ("comparison",)


@admin.register(ReviewDecision)
class ReviewDecisionAdmin(ReadOnlyAdmin):
    """Decisions on comparisons."""

    list_display = ("id", "comparison", "kind", "reviewer", "created_at")
    list_filter = ("kind",)
    list_select_related = ("comparison", "reviewer")


@admin.register(Correction)
class CorrectionAdmin(ReadOnlyAdmin):
    """Verdicts of reviewers in place of judgements."""

    list_display = ("id", "judgement", "rating", "is_active", "reviewer", "created_at")
    list_filter = ("is_active",)
    list_select_related = ("judgement", "reviewer")
