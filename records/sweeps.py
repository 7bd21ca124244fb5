"""Which temperatures a sweep of rejection sampling may try."""

from collections.abc import Sequence

from records.errors import RecordError

FIGURE_8_TEMPERATURES = (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
"""Those of arXiv:2307.09288, figure 8."""
MAX_TEMPERATURES = 32


def check_sweep_temperatures(temperatures: Sequence[float]) -> None:
    """Raise where `temperatures` are no sweep: none at all turns it off, one compares nothing.

    Raises:
        RecordError: There is one, there are more than 32, or one stands there twice.
    """
    count = len(temperatures)
    if count == 1 or count > MAX_TEMPERATURES:
        bound = f"a sweep tries 2 to {MAX_TEMPERATURES}, or none"
        raise RecordError("sweep_temperatures", f"{count} of them, but {bound}")
    if len(set(temperatures)) < count:
        twice = next(t for t in temperatures if temperatures.count(t) > 1)
        raise RecordError("sweep_temperatures", f"{twice} stands there more than once")
