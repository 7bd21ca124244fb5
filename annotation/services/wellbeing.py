"""Well-being: warnings and bounds by the lead, choices by the annotator."""

from collections.abc import Collection

from django.db import transaction

from annotation.access import ANNOTATORS, LEADS, require_role
from annotation.errors import RoundConfigError
from annotation.models import (
    CategoryOptOut,
    ContentCategory,
    ContentWarning,
    Round,
    User,
    WellbeingPolicy,
    WellbeingSettings,
)
from annotation.models.wellbeing import MINUTES_OF_A_DAY


def set_wellbeing_policy(
    *,
    lead: User,
    daily_minutes: int | None,
    stretch_minutes: int | None,
    break_minutes: int,
    support_text: str,
) -> WellbeingPolicy:
    """Set everybody's bounds for unsafe work, and whom to turn to.

    Raises:
        NotAllowedError: The person is no lead.
        RoundConfigError: A number is outside 1 to a day's minutes; names the field.
    """
    require_role(lead, LEADS)
    values = {
        "daily_minutes": daily_minutes,
        "stretch_minutes": stretch_minutes,
        "break_minutes": break_minutes,
    }
    for field, minutes in values.items():
        _check_minutes(field, minutes, low=1)
    with transaction.atomic():
        policy, _ = WellbeingPolicy.objects.update_or_create(
            pk=1, defaults={**values, "support_text": support_text, "updated_by": lead}
        )
    return policy


def set_daily_minutes(*, lead: User, annotator: User, minutes: int | None) -> WellbeingSettings:
    """Set one person's own bound per day; None for everybody's, 0 for no unsafe work at all.

    Raises:
        NotAllowedError: The person who sets it is no lead.
        RoundConfigError: `minutes` is outside 0 to a day's minutes.
    """
    require_role(lead, LEADS)
    _check_minutes("daily_minutes", minutes, low=0)
    with transaction.atomic():
        own, _ = WellbeingSettings.objects.update_or_create(
            annotator=annotator, defaults={"daily_minutes": minutes}
        )
    return own


def save_wellbeing_choices(
    *, annotator: User, covers_responses: bool, opted_out: Collection[str]
) -> WellbeingSettings:
    """Store what the annotator does not want to see, and how responses are shown.

    Raises:
        NotAllowedError: The person is no annotator.
        RoundConfigError: There is no such category.
    """
    require_role(annotator, ANNOTATORS)
    _check_categories(opted_out)
    with transaction.atomic():
        own, _ = WellbeingSettings.objects.update_or_create(
            annotator=annotator, defaults={"covers_responses": covers_responses}
        )
        CategoryOptOut.objects.filter(annotator=annotator).exclude(category__in=opted_out).delete()
        CategoryOptOut.objects.bulk_create(
            (CategoryOptOut(annotator=annotator, category=item) for item in sorted(set(opted_out))),
            ignore_conflicts=True,
        )
    return own


def set_content_warnings(*, lead: User, round_: Round, categories: Collection[str]) -> None:
    """Say which categories a round may contain, and no others.

    Raises:
        NotAllowedError: The person is no lead.
        RoundConfigError: There is no such category.
    """
    require_role(lead, LEADS)
    _check_categories(categories)
    with transaction.atomic():
        ContentWarning.objects.filter(round=round_).exclude(category__in=categories).delete()
        ContentWarning.objects.bulk_create(
            (ContentWarning(round=round_, category=item) for item in sorted(set(categories))),
            ignore_conflicts=True,
        )


def _check_minutes(field: str, minutes: int | None, *, low: int) -> None:
    if minutes is not None and not low <= minutes <= MINUTES_OF_A_DAY:
        raise RoundConfigError(field, f"{minutes} is not within {low} to {MINUTES_OF_A_DAY}")


def _check_categories(categories: Collection[str]) -> None:
    for category in categories:
        if category not in ContentCategory.values:
            known = ", ".join(ContentCategory.values)
            raise RoundConfigError("categories", f"{category!r} is not one of {known}")
