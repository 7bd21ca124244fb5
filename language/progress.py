"""A bar on the terminal of whoever runs a run by hand; nothing where nobody watches."""

import sys
from collections.abc import Mapping

from tqdm import tqdm

SHOWN = ("loss", "accuracy", "reward", "score", "best_score", "kl", "heldout_reward")
"""What is told beside the bar, of the metrics that a row has."""


class ProgressBar:
    """The steps of a run and its newest metrics, on standard error where that is a terminal."""

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()
        self._bar: tqdm | None = None

    def show(self, step: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Move the bar to `step` of the row's `total_steps`."""
        total = metrics.get("total_steps")
        if not self._is_watched or not isinstance(total, int):
            return
        if self._bar is None:
            self._bar = tqdm(total=total, initial=max(0, step - 1), unit="step", file=sys.stderr)
        self._bar.total, self._bar.n = total, step
        told = {name: metrics[name] for name in SHOWN if isinstance(metrics.get(name), float)}
        self._bar.set_postfix(told, refresh=True)

    def close(self) -> None:
        """Leave the bar as it stands and end its line."""
        if self._bar is not None:
            self._bar.close()
