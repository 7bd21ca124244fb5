"""What the pages of guidelines show: versions, and what changed between two of them."""

from dataclasses import dataclass
from typing import NamedTuple

from annotation.differences import Line, differences
from annotation.models import Guidelines, GuidelinesConfirmation, User
from annotation.services.guidelines import last_confirmed
from records.preferences import Axis

_LINES_AROUND = 2


class VersionRow(NamedTuple):
    """A version in the history."""

    guidelines: Guidelines
    previous: Guidelines | None
    confirmation: GuidelinesConfirmation | None


class AxisHistory(NamedTuple):
    """All versions on an axis, the newest first."""

    axis: Axis
    versions: list[VersionRow]


class Hunk(NamedTuple):
    """Lines in order: either all unchanged and far from a change, or worth reading."""

    is_quiet: bool
    lines: list[Line]


@dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """A version and what changed since another one."""

    version: Guidelines
    against: Guidelines | None
    others: list[Guidelines]
    hunks: list[Hunk]
    num_changed: int
    needs_confirmation: bool
    confirmation: GuidelinesConfirmation | None


def histories(user: User) -> list[AxisHistory]:
    """Return the versions of each axis; two queries however many there are."""
    confirmed = _confirmations(user)
    rows = list(Guidelines.objects.select_related("created_by").order_by("-pk"))
    found: list[AxisHistory] = []
    for axis in Axis:
        mine = [row for row in rows if row.axis == axis]
        versions = [
            VersionRow(row, previous, confirmed.get(row.pk))
            for row, previous in zip(mine, [*mine[1:], None], strict=False)
        ]
        found.append(AxisHistory(axis, versions))
    return found


def comparison_of(version: Guidelines, user: User, against_pk: int | None) -> ComparisonPage:
    """Return what changed in `version` since another of its axis.

    Without a choice that is the one an annotator confirmed last, else the one published before.
    """
    others = list(
        Guidelines.objects.filter(axis=version.axis).exclude(pk=version.pk).order_by("-pk")
    )
    against = next((other for other in others if other.pk == against_pk), None)
    if against is None and user.role == User.Role.ANNOTATOR:
        against = last_confirmed(user, version)
    if against is None:
        against = next((other for other in others if other.pk < version.pk), None)
    lines = _worth_reading(differences(against.text, version.text) if against else [])
    confirmed = _confirmations(user)
    return ComparisonPage(
        version=version,
        against=against,
        others=others,
        hunks=_hunks(lines),
        num_changed=sum(not line.is_same for line in lines),
        needs_confirmation=user.role == User.Role.ANNOTATOR and version.pk not in confirmed,
        confirmation=confirmed.get(version.pk),
    )


def _confirmations(user: User) -> dict[int, GuidelinesConfirmation]:
    rows = GuidelinesConfirmation.objects.filter(annotator=user)
    return {row.guidelines_id: row for row in rows}


def _worth_reading(lines: list[Line]) -> list[Line]:
    """Leave out empty lines that only one version has."""
    return [
        line for line in lines if line.is_same or any(piece.text.strip() for piece in line.pieces)
    ]


def _hunks(lines: list[Line]) -> list[Hunk]:
    """Fold what is far from any change, so that a reader finds the changes."""
    changed = [number for number, line in enumerate(lines) if not line.is_same]
    near = {n for c in changed for n in range(c - _LINES_AROUND, c + _LINES_AROUND + 1) if n >= 0}
    hunks: list[Hunk] = []
    for number, line in enumerate(lines):
        is_quiet = number not in near
        if not hunks or hunks[-1].is_quiet != is_quiet:
            hunks.append(Hunk(is_quiet, []))
        hunks[-1].lines.append(line)
    return hunks
