"""Forms made from config classes."""

from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from records.fields import Config, bounded
from webapp.forms.configs import ConfigForm, describe_config


class Colour(StrEnum):
    """A choice."""

    RED = "red"
    DARK_BLUE = "dark_blue"


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    """The inner one."""

    rate: float = bounded(0.5, low=0.0, high=1.0)
    """How fast."""


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    """The outer one."""

    count: int = bounded(3, low=1)
    """How many,
    all in all."""
    colour: Colour = Colour.RED
    """Which one."""
    is_loud: bool = True
    """Whether it is heard."""
    limit: int | None = None
    """Where to stop; empty never stops."""
    steps: tuple[float, ...] = bounded((), above=0.0)
    """How far each."""
    members: tuple[int, ...] = (1, 2)
    """Not a field of the form."""
    inner: Inner = field(default_factory=Inner)
    """The rest."""


class OuterForm(ConfigForm):
    """The form under test."""

    config_type = Outer


FIELDS = {
    "count": "3",
    "colour": "red",
    "is_loud": "on",
    "limit": "",
    "steps": "",
    "inner.rate": "0.5",
}


def test_every_scalar_field_is_there_with_default_bounds_and_help() -> None:
    form = OuterForm()
    assert list(form.fields) == ["count", "colour", "is_loud", "limit", "steps", "inner.rate"]
    assert [field.value() for field in form] == [3, "red", True, None, "", 0.5]
    assert form.fields["count"].help_text == "How many, all in all. (>= 1)"
    assert form.fields["colour"].choices == [("red", "red"), ("dark_blue", "dark blue")]  # type: ignore[attr-defined]
    assert form.fields["inner.rate"].label == "Rate"


def test_the_unchanged_form_gives_the_default_config() -> None:
    form = OuterForm(FIELDS)
    assert form.is_valid(), form.errors
    assert form.build_config() == Outer()


def test_changed_fields_arrive_with_their_types() -> None:
    changes = {"count": "7", "colour": "dark_blue", "limit": "9", "inner.rate": "1"}
    fields = {name: value for name, value in (FIELDS | changes).items() if name != "is_loud"}
    form = OuterForm(fields)
    assert form.is_valid(), form.errors
    expected = Outer(
        count=7, colour=Colour.DARK_BLUE, is_loud=False, limit=9, inner=Inner(rate=1.0)
    )
    assert form.build_config() == expected


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"count": "0"}, "count", "0 is below the lowest allowed value 1"),
        ({"inner.rate": "2"}, "inner.rate", "2.0 is above the highest allowed value 1"),
        ({"count": "many"}, "count", "Enter a whole number."),
        ({"steps": "1, 0"}, "steps", "0.0 must be greater than 0"),
        ({"steps": "1, far"}, "steps", "far is no number."),
        ({"colour": "green"}, "colour", "green is not one of the available choices"),
    ],
)
def test_what_the_config_refuses_stands_beside_its_field(
    changes: dict[str, str], name: str, message: str
) -> None:
    form = OuterForm(FIELDS | changes)
    assert not form.is_valid() or form.build_config() is None
    assert list(form.errors) == [name]
    assert message in str(form.errors[name][0])


@pytest.mark.parametrize("line", ["0.5, 1, 2.5", "0.5 1 2.5", " 0.5,1,2.5, "])
def test_a_row_of_numbers_is_one_line(line: str) -> None:
    form = OuterForm({**FIELDS, "steps": line})
    assert form.is_valid(), form.errors
    assert form.build_config() == Outer(steps=(0.5, 1.0, 2.5))


def test_a_stored_row_of_numbers_is_shown_as_it_is_written() -> None:
    form = OuterForm(values={"steps": [0.5, 1.0]})
    assert form["steps"].value() == "0.5, 1.0"
    assert form.sections()[0].num_changed == 1
    assert OuterForm(values={"steps": []}).sections()[0].num_changed == 0


def test_sections_count_what_differs_from_the_default() -> None:
    form = OuterForm(values={"count": 4, "inner": {"rate": 0.5}})
    assert [(s.title, s.num_changed) for s in form.sections()] == [
        ("General settings", 1),
        ("Inner", 0),
    ]


def test_a_stored_config_is_described_field_by_field() -> None:
    rows = describe_config(Outer, Outer(count=9).to_json())
    assert ("count", 9, "How many, all in all.") in rows
    assert ("inner.rate", 0.5, "How fast.") in rows
