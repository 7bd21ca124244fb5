"""The annotator's loop, next task and submit, over HTTP: loops per CPU second of web and database.

A gunicorn process of one worker serves annotators whose pairs of responses are already stored, so
that nothing is sampled while the clock runs. CPU seconds are those of gunicorn and PostgreSQL.
"""

from benchmarks.annotator_load import measure
from benchmarks.calibration import calibrate
from benchmarks.frame import Result

NUM_LOOPS = 200


def run() -> Result:
    """Drive one annotator through `NUM_LOOPS` comparisons."""
    before = calibrate()
    figures = measure(NUM_LOOPS)
    return Result(
        name="annotator_loop",
        unit="loops per CPU second",
        ours=round(figures.loops_per_cpu_second, 1),
        peer=None,
        peer_version="none in this run",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details=figures.details(),
    )
