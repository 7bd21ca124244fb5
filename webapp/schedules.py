"""The one schedule that the pages show and change."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from registry.models import PolicyVersion
from workers.models import IterationSchedule

NAME = "default"


def current_schedule() -> IterationSchedule | None:
    """Return the schedule, None where nobody has set one."""
    return IterationSchedule.objects.filter(name=NAME).select_related("last_iteration").first()


@transaction.atomic
def set_schedule(
    *,
    is_enabled: bool,
    every_hours: int,
    next_start_at: datetime,
    closes_rounds: bool,
    base_policy: PolicyVersion,
    config: dict[str, object],
) -> IterationSchedule:
    """Store when iterations start by themselves, and the template of their config."""
    schedule, _ = IterationSchedule.objects.update_or_create(
        name=NAME,
        defaults={
            "is_enabled": is_enabled,
            "every_hours": every_hours,
            "next_start_at": next_start_at,
            "closes_rounds": closes_rounds,
            "base_policy": base_policy,
            "config": config,
        },
    )
    return schedule


def next_week() -> datetime:
    """Return this time in a week, to the minute."""
    return (timezone.now() + timedelta(days=7)).replace(second=0, microsecond=0)
