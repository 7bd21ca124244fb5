"""The annotator's loop, next task and submit, over HTTP: loops per CPU second of web and database.

A gunicorn process of one worker serves annotators who judge pairs of others, which wait in a queue
of 10,000, 100,000 and 1,000,000 slots; nothing is sampled while the clock runs. CPU seconds are
those of gunicorn and PostgreSQL. `CONCORD_BENCH_ROWS=10000` measures one size.
"""

import os
from collections.abc import Iterator

from benchmarks.annotator_load import LoopFigures, measure
from benchmarks.calibration import calibrate
from benchmarks.frame import Result

SIZES = (10_000, 100_000, 1_000_000)
CROWDS = (1, 8, 32, 64)
NUM_LOOPS = 320
THINKING_SECONDS = 8.0
PEER = "Label Studio 1.23.2 with PostgreSQL 15, recorded, not run here"
PEER_CPU_MS = {(10_000, 1): 78 + 55, (10_000, 64): 131 + 66, (100_000, 1): 98 + 221}
"""CPU milliseconds of a loop of the peer, web and database, by rows and annotators."""


def run() -> Iterator[Result]:
    """Measure each number of rows with each number of annotators."""
    only = os.environ.get("CONCORD_BENCH_ROWS")
    sizes = (int(only),) if only else SIZES
    before = calibrate()
    for figures in measure(sizes, CROWDS, num_loops=NUM_LOOPS, thinking_seconds=THINKING_SECONDS):
        after = calibrate()
        yield _result(figures, {"before": before, "after": after})
        before = after


def _result(figures: LoopFigures, calibration: dict[str, object]) -> Result:
    peer_ms = PEER_CPU_MS.get((figures.num_rows, figures.num_annotators))
    if figures.thinking_seconds:
        peer_ms = None
    return Result(
        name="annotator_loop",
        unit="loops per CPU second",
        ours=round(figures.loops_per_cpu_second, 1),
        peer=None if peer_ms is None else round(1000 / peer_ms, 2),
        peer_version=PEER if peer_ms is not None else "no figure recorded for this size",
        floor_share=None,
        calibration=calibration,
        details=figures.details(),
    )
