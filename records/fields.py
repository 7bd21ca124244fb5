"""How a config field states its default and bounds, and where its one text is read from."""

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, Self

from records.errors import RecordError


def bounded(
    default: Any = dataclasses.MISSING,  # noqa: ANN401 - the field's own type is the annotation
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:  # noqa: ANN401
    """Return a dataclass field whose value must lie in [low, high] and, with `above`, exceed it.

    Of a tuple each item must.
    """
    metadata = {"low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata=metadata)


class FieldDoc(NamedTuple):
    """What forms, command lines and the documentation say of one config field."""

    name: str
    type_name: str
    default: object
    bounds: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configs: checks bounds, and goes to JSON and back.

    Raises:
        RecordError: A value is out of bounds; the message names the field and the bound.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, (int, float)) and field.metadata:
                    _check_bounds(field, item)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the config of `data`; missing keys take their defaults.

        Raises:
            RecordError: An unknown key, a required key missing, a wrong type or a broken bound.
        """
        hints = typing.get_type_hints(cls)
        names = {field.name for field in dataclasses.fields(cls)}
        for name in data:
            if name not in names:
                raise RecordError(name, f"{cls.__name__} has no such field")
        for field in dataclasses.fields(cls):
            is_required = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            if is_required and field.name not in data:
                raise RecordError(field.name, f"{cls.__name__} needs a value")
        return cls(**{name: _convert(name, hints[name], value) for name, value in data.items()})

    @classmethod
    def nested(cls) -> "dict[str, type[Config]]":
        """Return the config classes used as fields of this one, at any depth, by name."""
        found: dict[str, type[Config]] = {}
        for hint in typing.get_type_hints(cls).values():
            if isinstance(hint, type) and issubclass(hint, Config):
                found |= {hint.__name__: hint, **hint.nested()}
        return found

    @classmethod
    def describe(cls) -> list[FieldDoc]:
        """Return one `FieldDoc` per field, its text read from the docstring under the field."""
        # To mypy the class of unhashable instances is itself unhashable.
        texts = field_texts(typing.cast("type", cls))
        return [
            FieldDoc(
                f.name, _type_name(f.type), _default_of(f), _bounds_text(f), texts.get(f.name, "")
            )
            for f in dataclasses.fields(cls)
        ]


@cache
def field_texts(cls: type) -> dict[str, str]:
    """Return the docstring under each annotated field of `cls` and its bases."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for node, after in itertools.pairwise(body):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
                constant = typing.cast(ast.Constant, typing.cast(ast.Expr, after).value)
                texts[node.target.id] = inspect.cleandoc(str(constant.value))
    return texts


def _check_bounds(field: "dataclasses.Field[Any]", value: float) -> None:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    above = field.metadata.get("above")
    if low is not None and not value >= low:
        raise RecordError(field.name, f"{value} is below the lowest allowed value {low}")
    if above is not None and not value > above:
        raise RecordError(field.name, f"{value} must be greater than {above}")
    if high is not None and not value <= high:
        raise RecordError(field.name, f"{value} is above the highest allowed value {high}")


def _convert(name: str, hint: Any, value: object) -> object:  # noqa: ANN401
    """Return `value` as the annotated type `hint`, or raise naming the field."""
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in hint.__args__:
            return None
        (hint,) = (part for part in hint.__args__ if part is not type(None))
    origin = typing.get_origin(hint)
    try:
        if isinstance(hint, type) and issubclass(hint, Config):
            return value if isinstance(value, hint) else hint.from_json(typing.cast(Any, value))
        if origin is tuple:
            (item, _) = typing.get_args(hint)
            return tuple(_convert(name, item, part) for part in typing.cast(Any, value))
        if origin is dict:
            return dict(typing.cast(Any, value))
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return hint(str(value))
        if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError) as error:
        if isinstance(error, RecordError):
            raise RecordError(f"{name}.{error.field}", str(error)) from error
        raise RecordError(name, f"{value!r} is not a valid value: {error}") from error
    is_bool_as_int = hint is int and isinstance(value, bool)
    if isinstance(hint, type) and (not isinstance(value, hint) or is_bool_as_int):
        raise RecordError(name, f"{value!r} is not of type {hint.__name__}")
    return value


def _default_of(field: "dataclasses.Field[Any]") -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return json.loads(json.dumps(field.default_factory(), default=lambda o: o.to_json()))
    return None


def _type_name(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _bounds_text(field: "dataclasses.Field[Any]") -> str:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    above = field.metadata.get("above")
    parts = [f"> {above:g}"] if above is not None else []
    parts += [f">= {low:g}"] if low is not None else []
    parts += [f"<= {high:g}"] if high is not None else []
    return ", ".join(parts)
