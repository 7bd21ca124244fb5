"""Statements that PostgreSQL plans once for each connection: those of every step of an annotator.

Planning a statement with several joins takes the server five times what running it takes. SQL's own
PREPARE keeps the plan, so a connection must reach the same server session each time: through a
pooler that hands sessions out by the transaction these statements would not be found.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import connection, transaction

_NAMED = re.compile(r"%\((\w+)\)s")
_ONE_PLAN = "SET plan_cache_mode = force_generic_plan"
"""Has the server keep one plan for all values; left alone, it may plan some of them each time, with
what it believes of a newcomer's rows. It matters to prepared statements alone."""
_known: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""Names of what each server connection has prepared."""


class Statement:
    """One statement with values by name, `%(name)s`; a lone percent sign stands for itself."""

    def __init__(self, name: str, sql: str) -> None:
        self.sql = sql
        """The statement as it was written."""
        self._name = f"concord_{name}"
        self._names = tuple(dict.fromkeys(_NAMED.findall(sql)))
        self._text = _NAMED.sub(lambda match: f"${1 + self._names.index(match[1])}", sql)

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Run it and return the first row; None if there is none."""
        rows = self.rows(values)
        return rows[0] if rows else None

    def rows(self, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it and return all rows.

        Raises:
            KeyError: A value is missing.
        """
        return self.call(values).rows()

    def call(self, values: Mapping[str, Any]) -> "Call":
        """Return what runs it with these values.

        Raises:
            KeyError: A value is missing.
        """
        return Call(self._name, self._text, [values[name] for name in self._names])


class Call(NamedTuple):
    """A statement with its values, to be run."""

    name: str
    text: str
    """What the server prepares; its values are $1, $2, ..."""
    values: Sequence[Any]

    def rows(self, *, after: "Call | None" = None) -> list[tuple[Any, ...]]:
        """Run it and return all rows.

        With `after` that one is run before it, in the same message and, outside a transaction, in
        the same one: this one sees what it did, and what it returned is dropped.
        """
        calls = [self] if after is None else [after, self]
        # The cursor comes first: it is what finds a lost connection and makes a new one.
        with connection.cursor() as cursor:
            known = _known.setdefault(connection.connection, set())
            for call in calls:
                if call.name not in known:
                    cursor.execute(f"PREPARE {call.name} AS {call.text}; {_ONE_PLAN}")
                    known.add(call.name)
            texts = "; ".join(call.sql for call in calls)
            cursor.execute(texts, [value for call in calls for value in call.values])
            return list(cursor.fetchall())

    @property
    def sql(self) -> str:
        """What runs it once it is prepared."""
        marks = ", ".join(["%s"] * len(self.values))
        return f"EXECUTE {self.name}" + (f"({marks})" if marks else "")


@contextmanager
def contained() -> Iterator[None]:
    """Let what is run fail without harm to what was done before it.

    For single statements (`Call`): each is a transaction by itself, so BEGIN and COMMIT, two more
    messages to the server, are spared. Within a transaction this is a savepoint.
    """
    with transaction.atomic() if connection.in_atomic_block else nullcontext():
        yield
