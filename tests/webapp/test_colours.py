"""The palette reaches WCAG 2.2 AA in light and in dark: 4.5:1 for text, 3:1 for edges."""

import re
from pathlib import Path

import pytest

TOKENS = (Path(__file__).parents[2] / "webapp/static/webapp/tokens.css").read_text()
PAIRS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", TOKENS
    )
}
SURFACES = ("page", "surface", "raised", "sunken", "hover")
TEXT = [
    *((ink, surface) for ink in ("ink", "ink-soft", "ink-faint") for surface in SURFACES),
    *((ink, surface) for ink in ("accent", "bad", "warn", "good") for surface in SURFACES[:3]),
    *((name, f"{name}-wash") for name in ("good", "warn", "bad", "side-a", "side-b")),
    ("accent-strong", "accent-wash"),
    ("ink", "accent-wash"),
    ("ink", "warn-wash"),
    ("ink", "bad-wash"),
    ("ink", "side-a-wash"),
    ("ink", "side-b-wash"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-side-a", "side-a"),
    ("on-side-b", "side-b"),
    ("surface", "ink"),
    ("side-a", "surface"),
    ("side-b", "surface"),
]
EDGES = [
    *(("line-control", surface) for surface in SURFACES),
    *((f"series-{number}", "surface") for number in range(1, 6)),
    ("accent", "sunken"),
    ("good", "sunken"),
]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    red, green, blue = (_linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula_gives_the_known_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "surface"), TEXT)
def test_text_can_be_read(ink: str, surface: str, mode: int) -> None:
    assert contrast(PAIRS[ink][mode], PAIRS[surface][mode]) >= 4.5


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("edge", "surface"), EDGES)
def test_controls_and_lines_can_be_seen(edge: str, surface: str, mode: int) -> None:
    assert contrast(PAIRS[edge][mode], PAIRS[surface][mode]) >= 3.0


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_neither_side_of_a_comparison_is_louder(mode: int) -> None:
    surface = PAIRS["surface"][mode]
    a, b = (contrast(PAIRS[f"side-{side}"][mode], surface) for side in "ab")
    assert a / b == pytest.approx(1, abs=0.15)
