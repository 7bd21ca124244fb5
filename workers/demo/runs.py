"""Starting runs and iterations of the demo, or finding those of an earlier start, and waiting."""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from django.db import connection

from records.iteration_configs import IterationConfig
from records.run_configs import RunConfig, RunKind
from registry.models import Artifact, Iteration, PolicyVersion, Run
from registry.services import create_run, publish_artifact, retry_run
from workers import dispatch
from workers.demo.screen import Bars, Screen
from workers.iterations import retry_iteration, start_iteration

_LOOK_SECONDS = 0.5
_SHOWN = ("loss", "accuracy", "reward", "heldout_reward", "mean_best_score")


class DemoError(RuntimeError):
    """The demo cannot go on; the message says what failed and where to look."""


def publish_lines(write: Callable[[Path], object], kind: Artifact.Kind) -> Artifact:
    """Publish the JSON Lines file that `write` fills."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path)
        return publish_artifact(path=path, kind=kind)


def finished_run(
    screen: Screen,
    *,
    name: str,
    kind: RunKind,
    config: RunConfig,
    inputs: Mapping[str, Artifact],
    output_name: str = "",
) -> Run:
    """Return the run called `name`, started if it is not there and taken up if it was cut off.

    Raises:
        DemoError: It failed.
    """
    run = Run.objects.filter(name=name).order_by("-pk").first()
    if run is None:
        run = create_run(
            kind=kind, config=config, inputs=inputs, name=name, output_name=output_name
        )
    elif run.state in (Run.State.FAILED, Run.State.CANCELLED):
        run = retry_run(run=run)
    if not run.is_ended:
        dispatch.request_run(run.pk)
    with screen.bars() as bars:
        while not run.is_ended:
            _show_runs(bars, [run])
            time.sleep(_LOOK_SECONDS)
            run.refresh_from_db()
        _show_runs(bars, [run])
    _refuse_failure(run)
    return run


def finished_iteration(
    screen: Screen,
    *,
    name: str,
    config: IterationConfig,
    base_policy: PolicyVersion,
    start_policy: PolicyVersion,
    previous_policy: PolicyVersion,
) -> Iteration:
    """Return the iteration called `name`, started or taken up again, once it has ended well.

    Raises:
        DemoError: It failed or was stopped.
    """
    iteration = Iteration.objects.filter(name=name).first()
    if iteration is None:
        iteration = start_iteration(
            name=name,
            config=config,
            base_policy=base_policy,
            start_policy=start_policy,
            previous_policy=previous_policy,
        )
    elif iteration.state in (Iteration.State.FAILED, Iteration.State.STOPPED):
        iteration = retry_iteration(iteration=iteration)
    else:
        dispatch.advance_iteration_later(iteration.pk)
    with screen.bars() as bars:
        while iteration.is_running:
            _show_runs(bars, iteration.runs.order_by("pk"))
            time.sleep(_LOOK_SECONDS)
            iteration.refresh_from_db()
        _show_runs(bars, iteration.runs.order_by("pk"))
    if iteration.state != Iteration.State.FINISHED:
        raise DemoError(f"iteration {name} has {iteration.state}: {iteration.error}")
    return iteration


def _show_runs(bars: Bars, runs: Iterable[Run]) -> None:
    for run in runs:
        row = run.metrics.order_by("-step").first()
        step, values = (row.step, row.values) if row is not None else (0, {})
        total = values.get("total_steps")
        if run.state == Run.State.FINISHED:
            total = total or max(step, 1)
            step = total
        notes = [f"{key} {values[key]:.3f}" for key in _SHOWN if _is_number(values.get(key))]
        note = run.state if run.state != Run.State.RUNNING else "  ".join(notes[:2])
        bars.set(str(run), step, total, note)
    connection.close_if_unusable_or_obsolete()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _refuse_failure(run: Run) -> None:
    if run.state == Run.State.FINISHED:
        return
    log = run.directory.root / "log.txt"
    raise DemoError(
        f"{run} has {run.state}: {run.error_class} {run.error_message}\n"
        f"Its log is {log}. Mend the cause and start the demo again: it goes on from here."
    )
