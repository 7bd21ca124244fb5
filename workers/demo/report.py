"""The demo's last page: one row per version, the same figures as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from records.files import write_json_atomically
from records.preferences import Rating

_RATINGS = {
    Rating.SIGNIFICANTLY_BETTER: "signif.",
    Rating.BETTER: "better",
    Rating.SLIGHTLY_BETTER: "slightly",
    Rating.NEGLIGIBLY_BETTER: "neglig.",
}


@dataclass(frozen=True, kw_only=True)
class VersionFigures:
    """What the demo measured of one policy version and of the reward models that made it."""

    name: str
    win_rate: float | None = None
    """Share of held-out prompts won against the SFT version, ties half."""
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    violation_rate: float | None = None
    """Share of unsafe held-out prompts answered unsafely; None where truth is not known."""
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    """By axis, then `overall`, each rating, and what else the run reports (`length_baseline`)."""
    reward: float | None = None
    """Mean gated score, in logits, under the newest reward models."""
    kl: float | None = None
    """KL(version || SFT) in nats per response."""


def accuracies(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies of a reward model's result summary as plain numbers by name."""
    figures = {name: figure["value"] for name, figure in summary["accuracy"].items()}
    if summary.get("length_baseline"):
        figures["length_baseline"] = summary["length_baseline"]["overall"]["value"]
    return {name: value for name, value in figures.items() if value is not None}


def write_result(path: Path, versions: Sequence[VersionFigures], seconds: float) -> None:
    """Write the figures of all versions and the duration of the run, installation not counted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(version) for version in versions]
    write_json_atomically(path, {"versions": rows, "seconds": round(seconds, 1)})


def print_versions(console: Console, versions: Sequence[VersionFigures], judge: str) -> None:
    """Print the table of versions; `judge` says who decided the wins."""
    table = Table(title=f"Policy versions ({judge})", title_justify="left")
    for heading in ("version", "win rate against SFT", "violations", "mean reward", "KL"):
        table.add_column(heading, justify="left" if heading == "version" else "right")
    for version in versions:
        table.add_row(
            version.name,
            _interval(version),
            _percent(version.violation_rate),
            "-" if version.reward is None else f"{version.reward:.2f}",
            "-" if version.kl is None else f"{version.kl:.2f}",
        )
    console.print(table)


def print_accuracies(console: Console, versions: Sequence[VersionFigures]) -> None:
    """Print every reward model's held-out accuracy, by rating, beside that of "longer wins"."""
    table = Table(title="Reward models: accuracy on held-out comparisons", title_justify="left")
    table.add_column("for")
    table.add_column("axis", no_wrap=True)
    shown = [version for version in versions if version.accuracy]
    names = {name for version in shown for row in version.accuracy.values() for name in row}
    ratings = [rating for rating in Rating if rating in names]
    for heading in ("overall", *(_RATINGS[rating] for rating in ratings), "length"):
        table.add_column(heading, justify="right")
    for version in shown:
        for axis, row in version.accuracy.items():
            cells = [_percent(row.get(name)) for name in ("overall", *ratings, "length_baseline")]
            table.add_row(version.name, axis, *cells)
    console.print(table)


def _interval(version: VersionFigures) -> str:
    if version.win_rate is None or version.win_rate_low is None or version.win_rate_high is None:
        return "-"
    low, high = 100 * version.win_rate_low, 100 * version.win_rate_high
    return f"{100 * version.win_rate:.1f}%  [{low:.1f}, {high:.1f}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
