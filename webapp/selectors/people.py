"""What the page of people shows."""

from typing import NamedTuple

from django.db.models import Count, Exists, OuterRef, Q

from annotation.models import User
from webapp.models import OneTimePassword


class PersonRow(NamedTuple):
    """An account, and what it has done; who wrote what is not shown here."""

    user: User
    num_judged: int
    has_one_time_password: bool


def people_rows(*, shows_simulated: bool) -> list[PersonRow]:
    """Return the accounts by role and name; simulated annotators only when asked for."""
    users = User.objects.annotate(
        num_judged=Count("judgements", filter=Q(judgements__is_retracted=False)),
        is_new=Exists(OneTimePassword.objects.filter(user=OuterRef("pk"))),
    ).order_by("-is_active", "role", "username")
    if not shows_simulated:
        users = users.filter(persona="")
    return [PersonRow(user, user.num_judged, user.is_new) for user in users[:500]]
