"""Forms made from config classes: one field each, its help the docstring under the field."""

import re
import types
import typing
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from django import forms

from records.errors import RecordError
from records.fields import Config, FieldDoc
from webapp.wording import capitalised, spoken

SEPARATOR = "."
_NUMBERS = tuple[float, ...]
_FIELD_PREFIXES = re.compile(r"^([\w.]+: )+")
"""A nested config names the field once per level; beside the field no name is needed."""


class NumbersField(forms.CharField):
    """Numbers in one line, parted by commas or spaces; an empty line is none."""

    def to_python(self, value: object) -> Any:  # noqa: ANN401 - Django says str
        """Return the numbers as a tuple.

        Raises:
            ValidationError: A word is no number; says which.
        """
        numbers = []
        for word in str(super().to_python(value)).replace(",", " ").split():
            try:
                numbers.append(float(word))
            except ValueError as error:
                message = f"{word} is no number. Part numbers by commas, such as 0.8, 1.0, 1.2."
                raise forms.ValidationError(message) from error
        return tuple(numbers)

    def prepare_value(self, value: object) -> object:
        """Return the line that shows stored numbers."""
        if isinstance(value, (list, tuple)):
            return ", ".join(str(number) for number in value)
        return value


class ConfigSection(NamedTuple):
    """Fields of one nested config, shown together."""

    name: str
    title: str
    text: str
    """What the nested config is for: the docstring under its field."""
    fields: list[forms.BoundField]
    num_changed: int
    """Fields whose value differs from the default."""
    has_errors: bool


class ConfigForm(forms.Form):
    """The fields of a config and of the configs nested in it, named by their path.

    Each is a scalar or a row of numbers; other collections are no fields.

    Subclasses set `config_type` and may leave fields out by path; `config()` builds the config, and
    whatever it refuses stands beside the field it names.
    """

    config_type: typing.ClassVar[type[Config]]
    left_out: typing.ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, values: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data)
        self._defaults = dict(flat_values(self.config_type().to_json()))
        shown = self._defaults | dict(flat_values(values or {}))
        self._config_names: set[str] = set()
        for path, doc, hint in _leaves(self.config_type):
            if path not in self.left_out:
                self.fields[path] = _form_field(doc, hint, shown.get(path))
                self._config_names.add(path)

    def config_values(self) -> dict[str, Any]:
        """Return the cleaned values over the defaults, as the mapping that `from_json` reads."""
        values = self.config_type().to_json()
        for path in self._config_names & set(self.cleaned_data):
            *parents, name = path.split(SEPARATOR)
            target = values
            for parent in parents:
                target = target[parent]
            target[name] = self.cleaned_data[path]
        return values

    def build_config(self, extra: Mapping[str, Any] | None = None) -> Config | None:
        """Return the config; None, with the error at its field, when the config refuses a value."""
        try:
            return self.config_type.from_json({**self.config_values(), **(extra or {})})
        except RecordError as error:
            message = _FIELD_PREFIXES.sub("", str(error))
            self.add_error(error.field if error.field in self.fields else None, message)
            return None

    def sections(self) -> list[ConfigSection]:
        """Return the fields grouped by the nested config they belong to, the general ones first."""
        texts = {doc.name: " ".join(doc.text.split()) for doc in self.config_type.describe()}
        grouped: dict[str, list[forms.BoundField]] = {}
        for path in self.fields:
            if path in self._config_names:
                section = path.partition(SEPARATOR)[0] if SEPARATOR in path else ""
                grouped.setdefault(section, []).append(self[path])
        return [
            ConfigSection(
                name=name or "general",
                title=capitalised(spoken(name or "general settings")),
                text=texts.get(name, ""),
                fields=fields,
                num_changed=sum(self._is_changed(field) for field in fields),
                has_errors=any(field.errors for field in fields),
            )
            for name, fields in grouped.items()
        ]

    def _is_changed(self, field: forms.BoundField) -> bool:
        default = field.field.prepare_value(self._defaults.get(field.name))
        value = field.value()
        return str("" if value is None else value) != str("" if default is None else default)


def _leaves(config_type: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldDoc, Any]]:
    hints = typing.get_type_hints(config_type)
    for doc in config_type.describe():
        hint, path = hints[doc.name], f"{prefix}{doc.name}"
        if isinstance(hint, type) and issubclass(hint, Config):
            yield from _leaves(hint, f"{path}{SEPARATOR}")
        elif _scalar(hint) is not None or hint == _NUMBERS:
            yield path, doc, hint


def _scalar(hint: Any) -> type | None:  # noqa: ANN401 - any annotation
    """Return the plain type of a field, None for a collection."""
    if isinstance(hint, types.UnionType):
        parts = [part for part in hint.__args__ if part is not type(None)]
        return _scalar(parts[0]) if len(parts) == 1 else None
    return hint if isinstance(hint, type) and issubclass(hint, (bool, int, float, str)) else None


def _form_field(doc: FieldDoc, hint: Any, value: object) -> forms.Field:  # noqa: ANN401
    common: dict[str, Any] = {
        "label": capitalised(spoken(doc.name)),
        "help_text": " ".join(doc.text.split()) + (f" ({doc.bounds})" if doc.bounds else ""),
        "initial": value,
        "required": not isinstance(hint, types.UnionType),
    }
    if hint == _NUMBERS:
        return NumbersField(**{**common, "required": False})
    kind = _scalar(hint)
    assert kind is not None, doc.name
    if issubclass(kind, bool):
        return forms.BooleanField(**{**common, "required": False})
    if issubclass(kind, StrEnum):
        choices = [(member.value, spoken(member.value)) for member in kind]
        if not common["required"]:
            choices = [("", "any"), *choices]
        return forms.TypedChoiceField(**common, choices=choices, empty_value=None)
    if issubclass(kind, int):
        return forms.IntegerField(**common)
    if issubclass(kind, float):
        return forms.FloatField(**common, widget=forms.TextInput(attrs={"inputmode": "decimal"}))
    return forms.CharField(**{**common, "required": False})


def flat_values(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of everything in a config's JSON, at any depth."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_values(value, f"{prefix}{name}{SEPARATOR}")
        else:
            yield f"{prefix}{name}", value


def describe_config(
    config_type: type[Config], values: Mapping[str, Any]
) -> list[tuple[str, object, str]]:
    """Return path, value and help of every scalar field, for a page that shows a stored config."""
    flat = dict(flat_values(values))
    helps = {path: " ".join(doc.text.split()) for path, doc, _ in _leaves(config_type)}
    return [(path, value, helps.get(path, "")) for path, value in flat.items()]
