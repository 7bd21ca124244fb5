"""The queue of free slots: one statement gives an annotator the next one that is for them.

The slots of a round stand in the order in which they were offered. Each annotator has a cursor:
what lies before it was taken or is not for them, so a claim looks at a bounded window ahead of it,
however many slots there are. `FOR UPDATE SKIP LOCKED` lets any number of annotators claim at once:
none waits, and none gets what another gets. At the end the cursor goes back to the beginning, which
finds what was locked for a moment when it passed by.
"""

from typing import Any, NamedTuple

from django.db import connection

from annotation.models import Round, Slot, SlotCursor, User
from annotation.scale import Side
from annotation.slots import LEASE
from annotation.statements import Call, Statement

WINDOW = 32
"""Slots looked at by one statement."""
MAX_WINDOWS = 16
"""Statements of one claim, at most; the next claim goes on where this one stopped."""

CLAIM = Statement(
    "claim",
    # The window is written out: for a LIMIT that it does not know PostgreSQL expects a tenth of all
    # rows, and then plans the claim anew each time.
    f"""
    WITH held AS (
        SELECT id FROM annotation_slot
        WHERE annotator_id = %(annotator)s AND state = 'leased'
    ), place AS (
        SELECT offered_at, slot_id FROM annotation_slotcursor
        WHERE annotator_id = %(annotator)s AND round_id = %(round)s
    ), ahead AS MATERIALIZED (
        SELECT id, offered_at FROM annotation_slot
        WHERE round_id = %(round)s AND state = 'free' AND (offered_at, id) > (
            COALESCE((SELECT offered_at FROM place), '-infinity'),
            COALESCE((SELECT slot_id FROM place), 0)
        )
        ORDER BY offered_at, id LIMIT {WINDOW}
    ), found AS (
        SELECT slot.id FROM ahead JOIN annotation_slot slot USING (id)
        WHERE slot.state = 'free' AND slot.author_id <> %(annotator)s
            AND NOT EXISTS (SELECT FROM held)
            AND NOT EXISTS (
                SELECT FROM annotation_judgement judgement
                WHERE judgement.comparison_id = slot.comparison_id
                    AND judgement.annotator_id = %(annotator)s
            )
            AND NOT EXISTS (
                SELECT FROM annotation_slotskip skip
                WHERE skip.comparison_id = slot.comparison_id
                    AND skip.annotator_id = %(annotator)s
            )
        ORDER BY ahead.offered_at, ahead.id LIMIT 1
        FOR UPDATE OF slot SKIP LOCKED
    ), taken AS (
        UPDATE annotation_slot
        SET state = 'leased', annotator_id = %(annotator)s,
            lease_expires_at = statement_timestamp() + %(lease)s
        WHERE id = (SELECT id FROM found)
        RETURNING id, offered_at
    ), reached AS (
        SELECT offered_at, id FROM taken
        UNION ALL
        (SELECT offered_at, id FROM ahead
            WHERE NOT EXISTS (SELECT FROM taken) AND NOT EXISTS (SELECT FROM held)
            ORDER BY offered_at DESC, id DESC LIMIT 1)
    ), moved AS (
        INSERT INTO annotation_slotcursor (annotator_id, round_id, offered_at, slot_id)
        SELECT %(annotator)s, %(round)s, offered_at, id FROM reached
        ON CONFLICT (annotator_id, round_id)
        DO UPDATE SET offered_at = excluded.offered_at, slot_id = excluded.slot_id
    )
    SELECT COALESCE((SELECT id FROM held), (SELECT id FROM taken)), EXISTS (SELECT FROM ahead)
    """,  # noqa: S608 - nothing but a number of ours
)


def claim_next(annotator: User, round_: Round) -> int | None:
    """Lease the next slot of the round that is for this annotator; return its id, None if none is.

    Who holds a slot already, of whatever round, gets that one.

    Raises:
        IntegrityError: They claimed another one at the same moment.
    """
    has_gone_back = False
    for _ in range(MAX_WINDOWS):
        ((slot_id, is_anything_ahead),) = CLAIM.rows(claim_parameters(annotator, round_))
        if slot_id is not None:
            return int(slot_id)
        if not is_anything_ahead:
            if has_gone_back or not _go_back(annotator, round_):
                return None
            has_gone_back = True
    return None


def claim_parameters(annotator: User, round_: Round) -> dict[str, Any]:
    """Return the values of `CLAIM`."""
    return {"annotator": annotator.pk, "round": round_.pk, "lease": LEASE}


def release_lapsed(limit: int = 1000) -> int:
    """Offer again what lapsed leases held, at the end of the queue; return how many.

    So it is with what was judged, taken back and not judged anew for as long as a lease. What was
    made for one annotator is withdrawn instead; all may still be submitted.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH lapsed AS (
                SELECT id FROM annotation_slot
                WHERE state = 'leased' AND lease_expires_at < statement_timestamp()
                ORDER BY lease_expires_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
            ), taken_back AS (
                SELECT id FROM annotation_slot
                WHERE state = 'withdrawn' AND kind IN ('overlap', 'second_reading')
                    AND offered_at < statement_timestamp()
                ORDER BY offered_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE annotation_slot SET
                state = CASE WHEN kind IN ('gold', 'repeat') THEN 'withdrawn' ELSE 'free' END,
                lease_expires_at = NULL,
                offered_at = statement_timestamp()
            WHERE id IN (SELECT id FROM lapsed UNION ALL SELECT id FROM taken_back)
            """,
            {"limit": limit},
        )
        return int(cursor.rowcount)


class Filled(NamedTuple):
    """What became of a slot that was judged."""

    judgement_id: int
    is_disputed: bool
    """Whether another judgement of the comparison, one that counts, prefers the other response."""


def fill_slot(slot: Slot, annotator: User, side: Side, *, insertion: Call) -> Filled | None:
    """Store a judgement, mark its slot as judged, count it, drop its draft; one message does it.

    Returns None if the slot is in other hands: the caller rolls back. The round's row, which all
    share, is locked last, for as short a time as can be. It also looks for judgements that differ
    from the one just stored, of the response on `side`.

    Raises:
        IntegrityError: The judgement cannot be stored (`annotation.judgements.insertion_of`).
    """
    values = {"slot": slot.pk, "annotator": annotator.pk, "side": side.value}
    rows = _FILL.call(values).rows(after=insertion)
    return Filled(*rows[0]) if rows else None


_FILL = Statement(
    "fill",
    """
    WITH filled AS (
        UPDATE annotation_slot
        SET state = 'judged', annotator_id = %(annotator)s, lease_expires_at = NULL
        WHERE id = %(slot)s AND (
            state = 'free' OR annotator_id = %(annotator)s AND state IN ('leased', 'withdrawn')
        )
        RETURNING comparison_id, number, round_id, kind
    ), dropped AS (
        DELETE FROM annotation_draft draft USING filled
        WHERE draft.comparison_id = filled.comparison_id AND draft.annotator_id = %(annotator)s
    ), counted AS (
        UPDATE annotation_round round SET num_further_judged = num_further_judged + 1 FROM filled
        WHERE round.id = filled.round_id AND filled.kind IN ('overlap', 'second_reading')
    )
    SELECT (
        SELECT own.id FROM annotation_judgement own
        WHERE own.comparison_id = filled.comparison_id AND own.slot = filled.number
            AND NOT own.is_retracted
    ), filled.kind IN ('overlap', 'second_reading') AND EXISTS (
        SELECT FROM annotation_judgement other
        WHERE other.comparison_id = filled.comparison_id
            AND other.displayed_side <> %(side)s AND NOT other.is_retracted
            AND other.kind NOT IN ('gold', 'repeat')
            AND NOT EXISTS (
                SELECT FROM annotation_exclusion
                WHERE judgement_id = other.id AND is_active
            )
    )
    FROM filled
    """,
)


def _go_back(annotator: User, round_: Round) -> bool:
    """Begin again at the first slot; False if the annotator has only just begun."""
    num_deleted, _ = SlotCursor.objects.filter(annotator=annotator, round=round_).delete()
    return num_deleted > 0
