"""How PostgreSQL runs each statement of the annotator's loop among a million comparisons.

Each statement is explained and run (`EXPLAIN (ANALYZE, BUFFERS)`) where the loop sends it, with the
loop's own values and the plan that is kept for it, and undone; then the loop goes on. Checks of
foreign keys wait for COMMIT and are not in these times. `CONCORD_BENCH_ROWS=10000` takes another
number of comparisons.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import annotator_seed
from benchmarks.annotator_load import own_database
from benchmarks.calibration import calibrate
from benchmarks.frame import Result

NUM_ROWS = 1_000_000
NUM_WARM_UP = 10
"""Loops before: PostgreSQL keeps a plan after it has planned a statement five times."""
NUM_LOOPS = 20

Explained = dict[str, list[dict[str, Any]]]
"""What EXPLAIN says, by the name of the statement, a loop each."""


def run() -> Result:
    """Explain the statements of some loops; report the median of their times."""
    num_rows = int(os.environ.get("CONCORD_BENCH_ROWS") or NUM_ROWS)
    before = calibrate()
    explained: Explained = {}
    with own_database() as url:
        os.environ["DATABASE_URL"] = url
        seed = annotator_seed.begin(1)
        annotator_seed.fill(seed, first=1, last=num_rows)
        reader = annotator_seed.Reader(annotator_seed.sessions(seed)[0])
        for _ in range(NUM_WARM_UP):
            reader.judge()

        from django.db import connection

        with connection.execute_wrapper(_explaining(explained)):
            for _ in range(NUM_LOOPS):
                reader.judge()
    summaries = {name: _summary(plans) for name, plans in explained.items()}
    milliseconds = sum(item["milliseconds"] for item in summaries.values())
    return Result(
        name="annotator_plans",
        unit="loops per second of the statements' execution",
        ours=round(1000 / milliseconds, 1),
        peer=None,
        peer_version="no figure recorded",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={"comparisons_in_database": num_rows, "statements": summaries},
    )


def _explaining(explained: Explained) -> Callable[..., Any]:
    """Return a wrapper of execution that explains each statement of a message before it is run."""

    def wrapper(
        execute: Callable[..., object],
        sql: str,
        params: Sequence[Any] | None,
        many: bool,
        context: dict[str, Any],
    ) -> object:
        if sql.startswith("EXECUTE "):
            with context["connection"].connection.cursor() as cursor:
                for name, plan in _explain(cursor, cursor.mogrify(sql, params).decode()):
                    explained.setdefault(name, []).append(plan)
        return execute(sql, params, many, context)

    return wrapper


def _explain(cursor: Any, message: str) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """Yield (name, plan) of each statement of a message, and leave nothing of what they did."""
    is_alone = cursor.connection.autocommit
    cursor.execute("BEGIN" if is_alone else "SAVEPOINT explained")
    for statement in message.split("; "):
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        ((plans,),) = cursor.fetchall()
        name = statement.removeprefix("EXECUTE concord_").partition("(")[0]
        yield name, plans[0]
    cursor.execute("ROLLBACK" if is_alone else "ROLLBACK TO SAVEPOINT explained")


def _summary(plans: list[dict[str, Any]]) -> dict[str, Any]:
    last = plans[-1]["Plan"]
    return {
        "milliseconds": round(statistics.median(plan["Execution Time"] for plan in plans), 3),
        "planning_milliseconds": round(
            statistics.median(plan["Planning Time"] for plan in plans), 3
        ),
        "buffers": statistics.median(
            plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] for plan in plans
        ),
        "scans": sorted({scan for scan in _scans(last) if scan}),
    }


def _scans(node: dict[str, Any]) -> Iterator[str]:
    """Yield how each table is read that was read at all: by which index, or through."""
    if "Relation Name" in node and node["Actual Loops"] and "Scan" in node["Node Type"]:
        yield f"{node['Node Type']} {node.get('Index Name', node['Relation Name'])}"
    if node["Node Type"] == "Bitmap Index Scan" and node["Actual Loops"]:
        yield f"{node['Node Type']} {node['Index Name']}"
    for child in node.get("Plans", ()):
        yield from _scans(child)
