"""The desk of an annotator: everything that decides what they do next, in one statement."""

from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS

from annotation.eligibility import FACTS, Facts, Missing, missing_for
from annotation.models import Round, User
from annotation.statements import Statement

_FIELDS = Round._meta.concrete_fields
_DESK = Statement(
    "desk",
    f"""
    WITH open AS (
        SELECT {", ".join(f'"{field.column}"' for field in _FIELDS)}
        FROM annotation_round WHERE state = 'open'
    ), facts AS (
        SELECT {
        FACTS.format(
            guidelines="ARRAY(SELECT guidelines_id FROM open)",
            rounds="ARRAY(SELECT id FROM open)",
            axes="ARRAY(SELECT axis FROM open)",
        )
    }, EXISTS (
            SELECT FROM annotation_dialogue dialogue
            JOIN annotation_comparison comparison ON comparison.dialogue_id = dialogue.id
            WHERE dialogue.annotator_id = %(annotator)s AND dialogue.state = 'open'
            AND comparison.state = 'ready' AND NOT comparison.is_ahead
            AND comparison.turn = dialogue.num_turns
            AND comparison.ready_at <= statement_timestamp()
        )
    )
    SELECT facts.*, open.*, ARRAY(
        SELECT category FROM annotation_contentwarning warning
        WHERE warning.round_id = open.id ORDER BY warning.id
    )
    FROM facts LEFT JOIN open ON true
    ORDER BY open.opened_at, open.id
    """,  # noqa: S608 - nothing but names of our own columns
)
_NUM_FACTS = len(Facts._fields)


class Desk(NamedTuple):
    """What somebody comes upon who looks for work."""

    has_ready: bool
    """Whether a pair of their own is ready to be judged."""
    rounds: list[Round]
    """The rounds that take work, the oldest first; they know their content warnings."""
    missing: dict[int, tuple[Missing, ...]]
    """What is missing for each of them, by round id."""


def desk_of(annotator: User) -> Desk:
    """Ask for one annotator's desk."""
    rows = _DESK.rows({"annotator": annotator.pk})
    facts, has_ready = Facts(*rows[0][:_NUM_FACTS]), bool(rows[0][_NUM_FACTS])
    rounds = [_round_from(row[_NUM_FACTS + 1 :]) for row in rows if row[_NUM_FACTS + 1] is not None]
    return Desk(has_ready, rounds, missing_for(annotator, rounds, facts))


def _round_from(columns: tuple[Any, ...]) -> Round:
    round_: Round = Round.from_db(
        DEFAULT_DB_ALIAS, [field.attname for field in _FIELDS], columns[:-1]
    )
    round_.declared = columns[-1]
    return round_
