"""Query sets compiled and planned once: what every step of an annotator asks is not built anew.

Building the SQL of a query set with several joins takes Django ten times what PostgreSQL takes to
answer it. A `Prepared` keeps the compiled query with each connection and only exchanges its values,
so the query stays written as a query set and its rows are the usual model instances.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
from psycopg2.extensions import AsIs

from annotation.statements import Call

M = TypeVar("M", bound=Model)

_STAND_INS = (31_000, 32_000)
"""What stands for the first value in either of two compilations; small enough for every field.

A parameter that changes from one to the other is a value; one that stays belongs to the query.
"""


@dataclass
class _Compiled:
    """A query set compiled for one connection, which one thread uses at a time."""

    queryset: Any
    text: str
    """What the server prepares."""
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    """Those of the run whose model instances are being made."""


class Prepared(Generic[M]):
    """A query set of model instances whose only changing values are whole numbers.

    Args:
        name: What the server calls the statement; no other one may be called so.
        build: Makes the query set from the values, given by name. It is called for each
            connection once, so it may not look at anything else that changes; slices,
            `prefetch_related` and `values` are not kept.
        values: The names of the values.
    """

    def __init__(self, name: str, build: Callable[..., QuerySet[M]], *values: str) -> None:
        self._name = f"concord_{name}"
        self._build = build
        self._names = values

    def first(self, *, after: Call | None = None, **values: int) -> M | None:
        """Return the first row; None if there is none."""
        rows = self.rows(after=after, **values)
        return rows[0] if rows else None

    def rows(self, *, after: Call | None = None, **values: int) -> list[M]:
        """Return all rows; with `after` as they are once that statement has been run.

        Raises:
            KeyError: A value is missing.
        """
        compiled = self._kept()
        call = Call(self._name, compiled.text, [values[name] for name in self._names])
        compiled.rows = call.rows(after=after)
        return list(ModelIterable(compiled.queryset))

    def _kept(self) -> _Compiled:
        """Return what is compiled for the connection in use: it lies with it, and goes with it."""
        kept: dict[str, _Compiled] = vars(connections[DEFAULT_DB_ALIAS]).setdefault(
            "concord_prepared", {}
        )
        if self._name not in kept:
            kept[self._name] = self._compile()
        return kept[self._name]

    def _compile(self) -> _Compiled:
        (_, _, _, other), (queryset, compiler, sql, parameters) = map(self._compiled, _STAND_INS)
        # What belongs to the query is written out: only so are partial indexes found to apply.
        written = [
            parameter if parameter == same else AsIs(f"${1 + parameter - _STAND_INS[1]}")
            for parameter, same in zip(parameters, other, strict=True)
        ]
        with connection.cursor() as cursor:
            compiled = _Compiled(queryset, cursor.mogrify(sql, written).decode())
        # The same for every run; Django would look for them again, column by column.
        converters = compiler.get_converters([column for column, *_ in compiler.select])
        compiler.get_converters = lambda *_: converters
        compiler.execute_sql = lambda *_, **__: [compiled.rows]
        queryset.query.get_compiler = lambda *_, **__: compiler
        return compiled

    def _compiled(self, first: int) -> tuple[Any, Any, str, tuple[Any, ...]]:
        queryset = self._build(**{name: first + i for i, name in enumerate(self._names)})
        compiler = queryset.query.get_compiler(using=queryset.db)
        return queryset, compiler, *compiler.as_sql()
