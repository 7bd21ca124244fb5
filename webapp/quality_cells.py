"""Numbers on quality as cells of tables: the value, its interval in words, and a small drawing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from django.utils.safestring import SafeString

from annotation.quality.estimates import Estimate
from annotation.quality.weights import Weighting
from webapp.drawing import format_percent, interval_mark


def _write_coefficient(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _write_seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 90 else f"{value / 60:.1f} min"


def _write_share(value: float) -> str:
    return format_percent(round(value, 2)) if 0.01 <= value <= 0.99 else format_percent(value)


class Kind(NamedTuple):
    """How a kind of number is written, and the ends of the scale it is drawn on."""

    write: Callable[[float], str]
    ends: tuple[float, float] | None = None
    """None where it is not drawn."""


SHARE = Kind(_write_share, (0.0, 1.0))
COEFFICIENT = Kind(_write_coefficient, (-0.25, 1.0))
TIME = Kind(_write_seconds)


class Column(NamedTuple):
    """A number by the key it has in `Figures`, and its words."""

    key: str
    label: str
    kind: Kind
    reference: float | None = None
    """What it is held against, such as one half for the left share."""


class Cell(NamedTuple):
    """A number with its interval, ready to be shown."""

    column: Column
    estimate: Estimate

    @property
    def text(self) -> str:
        """The number, or a dash where the data do not say."""
        value = self.estimate.value
        return "–" if value is None else self.column.kind.write(value)

    @property
    def interval(self) -> str:
        """The interval in words; empty where there is none."""
        low, high = self.estimate.low, self.estimate.high
        if self.estimate.value is None or low is None or high is None:
            return ""
        write = self.column.kind.write
        first, last = write(low), write(high)
        for unit in ("%", " s", " min"):  # said once where both ends have it
            if first.endswith(unit) and last.endswith(unit):
                first = first.removesuffix(unit)
        return f"{first} to {last}"

    @property
    def mark(self) -> SafeString:
        """The number and its interval on its scale; nothing where it has none."""
        _, low, high, _ = self.estimate
        value, ends = self.estimate.value, self.column.kind.ends
        if ends is None or value is None or low is None or high is None:
            return SafeString("")
        return interval_mark(value, low, high, ends=ends, reference=self.column.reference)


def cells_of(columns: Iterable[Column], numbers: Mapping[str, Estimate]) -> tuple[Cell, ...]:
    """Return a cell for each column."""
    return tuple(Cell(column, numbers[column.key]) for column in columns)


def gwet_column(weights: str) -> Column:
    """Return Gwet's coefficient: AC1 with identity weights, AC2 with all others."""
    name = "Gwet AC1" if weights == Weighting.IDENTITY else "Gwet AC2"
    return Column(f"gwet_{weights}", name, COEFFICIENT)


ALPHA = Column("alpha_ordinal", "Alpha", COEFFICIENT)
DIRECTION = Column("direction", "Same direction", SHARE)
WITH_OTHERS = Column("agreement", "With others", SHARE)
HABITS: Sequence[Column] = (
    Column("consistency_direction", "Repeats", SHARE),
    Column("gold", "Gold", SHARE),
    Column("left", "Left side", SHARE, 0.5),
    Column("longer", "Longer", SHARE, 0.5),
    Column("median_seconds", "Median time", TIME),
    Column("slow_seconds", "90th percentile", TIME),
)
ANNOTATOR_COLUMNS: Sequence[Column] = (
    WITH_OTHERS,
    Column("competence", "Competence", SHARE),
    *HABITS,
)


def list_columns(weights: str) -> Sequence[Column]:
    """Return the columns of the list of reports."""
    return (gwet_column(weights), ALPHA, DIRECTION, *HABITS[:-1])


def agreement_columns(weights: str) -> Sequence[Column]:
    """Return the agreement that one report shows."""
    return (
        gwet_column(weights),
        Column("alpha_nominal", "Alpha, nominal", COEFFICIENT),
        Column("alpha_ordinal", "Alpha, ordinal", COEFFICIENT),
        Column("alpha_interval", "Alpha, interval", COEFFICIENT),
        Column("exact", "Same step", SHARE),
        DIRECTION,
        Column("contradiction", "Contradiction", SHARE),
    )
