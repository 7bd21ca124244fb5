"""Statements that PostgreSQL plans once for each connection: those of every step of an annotator.

Planning a statement with several joins takes the server five times what running it takes. SQL's own
PREPARE keeps the plan, so a connection must reach the same server session each time: through a
pooler that hands sessions out by the transaction these statements would not be found.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connection

_NAMED = re.compile(r"%\((\w+)\)s")
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
        prepare(self._name, self._text)
        with connection.cursor() as cursor:
            cursor.execute(*execute_sql(self._name, [values[name] for name in self._names]))
            return list(cursor.fetchall())


def prepare(name: str, text: str) -> None:
    """Have the connection in use prepare `text`, whose values are $1, $2, ..., if it has not."""
    with connection.cursor() as cursor:
        known = _known.setdefault(connection.connection, set())
        if name not in known:
            cursor.execute(f"PREPARE {name} AS {text}")
            known.add(name)


def execute_sql(name: str, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return what runs a prepared statement with these values."""
    marks = ", ".join(["%s"] * len(values))
    return f"EXECUTE {name}" + (f"({marks})" if marks else ""), values
