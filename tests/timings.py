"""What of a run's metrics measures time: all else is equal when a run is repeated or resumed."""

import re
from collections.abc import Sequence
from typing import Any

_TIMING = re.compile(r"seconds.*|floor_share_.*|.*_per_second")
"""As `docs/metrics.md` says it."""


def without_timings(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of metrics without the keys that measure time."""
    return [{key: row[key] for key in row if not _TIMING.fullmatch(key)} for row in rows]
