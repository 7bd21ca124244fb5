"""Query sets compiled once: what every step of an annotator asks is not built anew each time.

Building the SQL of a query set with several joins takes Django ten times what PostgreSQL takes to
answer it. A `Prepared` keeps the compiled query of each thread and only exchanges its values, so
the query stays written as a query set and its rows are the usual model instances.
"""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

M = TypeVar("M", bound=Model)

_STAND_INS = (31_000, 32_000)
"""What stands for the first value in either of two compilations; small enough for every field.

A parameter that changes from one to the other is a value; one that stays belongs to the query.
"""


class Prepared(Generic[M]):
    """A query set of model instances whose only changing values are whole numbers.

    Args:
        build: Makes the query set from those values, given by name. It is called once for each
            thread, so it may not look at anything else that changes; slices, `prefetch_related` and
            `values` are not kept.
        names: The names of the values.
    """

    def __init__(self, build: Callable[..., QuerySet[M]], *names: str) -> None:
        self._build = build
        self._names = names
        self._local = threading.local()

    def first(self, **values: int) -> M | None:
        """Return the first row; None if there is none."""
        rows = self.rows(**values)
        return rows[0] if rows else None

    def rows(self, **values: int) -> list[M]:
        """Return all rows.

        Raises:
            KeyError: A value is missing.
        """
        if not hasattr(self._local, "queryset"):
            self._compile()
        self._local.values = [values[name] for name in self._names]
        return list(ModelIterable(self._local.queryset))

    def _compile(self) -> None:
        """Compile for this thread: a compiler has one connection, and a connection one thread."""
        local = self._local
        (_, _, other), (queryset, compiler, sql_and_parameters) = map(self._compiled, _STAND_INS)
        sql, parameters = sql_and_parameters
        # Of each parameter the number of its value, or None where it belongs to the query.
        numbers = [
            a - _STAND_INS[1] if a != b else None for a, b in zip(parameters, other[1], strict=True)
        ]

        def as_sql(*_: object, **__: object) -> tuple[str, tuple[object, ...]]:
            bound = (
                parameter if number is None else local.values[number]
                for parameter, number in zip(parameters, numbers, strict=True)
            )
            return sql, tuple(bound)

        compiler.as_sql = as_sql
        queryset.query.get_compiler = lambda *_, **__: compiler
        local.queryset = queryset

    def _compiled(self, first: int) -> tuple[Any, Any, tuple[str, tuple[Any, ...]]]:
        queryset = self._build(**{name: first + i for i, name in enumerate(self._names)})
        compiler = queryset.query.get_compiler(using=queryset.db)
        return queryset, compiler, compiler.as_sql()
