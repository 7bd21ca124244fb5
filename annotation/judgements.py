"""The INSERT of a judgement, which every submit waits for: one statement, planned once."""

from django.db import connection

from annotation.models import Judgement
from annotation.statements import Call, Statement

_FIELDS = [field for field in Judgement._meta.concrete_fields if not field.primary_key]
_INSERT = Statement(
    "judge",
    f"""
    WITH locked AS (
        SELECT id FROM annotation_comparison WHERE id = %(comparison_id)s FOR NO KEY UPDATE
    )
    INSERT INTO annotation_judgement ({", ".join(f'"{field.column}"' for field in _FIELDS)})
    SELECT {", ".join(f"%({field.column})s" for field in _FIELDS)}
    FROM locked
    RETURNING id
    """,  # noqa: S608 - nothing but names of our own columns
)


def insertion_of(judgement: Judgement) -> Call:
    """Return what stores a new judgement and locks its comparison until the transaction ends.

    Of two judgements of one comparison the second waits for the first here, so what is read after
    this statement includes the first. It returns the id, which `mark_stored` takes. Running it
    raises IntegrityError if a judgement of this slot, by this person or with this key is stored
    already.
    """
    return _INSERT.call(
        {
            str(field.column): field.get_db_prep_save(
                field.pre_save(judgement, add=True), connection
            )
            for field in _FIELDS
        }
    )


def mark_stored(judgement: Judgement, pk: int) -> None:
    """Note that the judgement has been stored under this id."""
    judgement.pk = pk
    judgement._state.adding = False
    judgement._state.db = connection.alias


def insert_judgement(judgement: Judgement) -> None:
    """Store a new judgement; see `insertion_of`.

    Raises:
        IntegrityError: A judgement of this slot, by this person or with this key is stored already.
    """
    ((pk,),) = insertion_of(judgement).rows()
    mark_stored(judgement, pk)
