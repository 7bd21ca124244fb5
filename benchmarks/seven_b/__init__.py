"""The torch half at Llama 2 7B's shape on one GPU: exactness first, then speed by stage.

`make bench ARGS=seven_b`, or on a bare machine `python3 -m benchmarks.seven_b --out FOLDER`. Each
stage prints its JSON lines as they come, and one stage's failure does not stop the others.
`CONCORD_BENCH_STAGES` names some of them, `CONCORD_BENCH_SIZE=nano` runs them all on a tiny model,
on a CPU too.
"""

from benchmarks.frame import HOME, Result


def run() -> list[Result]:
    """Run the stages, which print and keep lines of their own form: there is no `Result`."""
    from benchmarks.seven_b.stages import run_stages

    run_stages(HOME)
    return []
