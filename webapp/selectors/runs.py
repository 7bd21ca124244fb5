"""What the pages of runs show: one page of the list, and everything about one run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.urls import reverse

from annotation.models import DemonstrationSet
from records.run_configs import RunKind
from records.run_kinds import CONFIGS
from registry.models import (
    Artifact,
    PolicyVersion,
    RewardModelVersion,
    Run,
    RunInput,
    RunMetric,
    RunOutput,
    Snapshot,
)
from registry.selectors import run_metrics
from webapp.forms.configs import describe_config
from webapp.instruction_plots import plots_of_distillation, plots_of_obedience
from webapp.plots import Plot
from webapp.report_plots import plots_of_axis
from webapp.run_plots import RunPlots, plots_of_metrics, plots_of_result
from webapp.sampling_plots import plots_of_sampling, plots_of_sweep_so_far
from workers.processes import last_lines

PAGE_SIZE = 30
MAX_EVENTS = 5
DEMONSTRATIONS = Artifact.Kind.DEMONSTRATIONS.value
"""The output that holds what a run was trained on, where it made that itself."""


class Known(NamedTuple):
    """A name an artifact is known by, and the page about it where there is one."""

    label: str
    url: str


class RunFile(NamedTuple):
    """An artifact that a run reads or has made."""

    role: str
    artifact: Artifact
    known: tuple[Known, ...]


class Event(NamedTuple):
    """What a run says in words of one of its steps: an alarm, and what to do about it."""

    step: int
    words: str


class Progress(NamedTuple):
    """How far a run is, by its newest row of metrics."""

    step: int
    total_steps: int

    @property
    def share(self) -> float:
        """Steps done as a share of all."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0


@dataclass(frozen=True, kw_only=True)
class RunListPage:
    """One page of the list of runs, and where the next one begins."""

    runs: list[Run]
    next_before: int | None


def run_list(*, state: str = "", kind: str = "", before: int | None = None) -> RunListPage:
    """Return the newest runs below id `before`; paging by key stays stable while runs are added."""
    runs = Run.objects.select_related("iteration").order_by("-pk")
    if state:
        runs = runs.filter(state=state)
    if kind:
        runs = runs.filter(kind=kind)
    if before is not None:
        runs = runs.filter(pk__lt=before)
    rows = list(runs.defer("config", "result", "error_traceback")[: PAGE_SIZE + 1])
    shown = rows[:PAGE_SIZE]
    return RunListPage(runs=shown, next_before=shown[-1].pk if len(rows) > PAGE_SIZE else None)


def progress_of(runs: Iterable[Run]) -> dict[int, Progress]:
    """Return how far each of the runs is; those without metrics are left out. One query."""
    newest = (
        RunMetric.objects.filter(run__in=[run.pk for run in runs])
        .order_by("run", "-step")
        .distinct("run")
        .values_list("run", "step", "values__total_steps")
    )
    return {run: Progress(step, int(total or 0)) for run, step, total in newest}


def plots_of(run: Run) -> RunPlots:
    """Return the plots of what a run has written so far."""
    rows = run_metrics(run)
    main, others = plots_of_metrics(rows)
    return RunPlots([*([] if run.result else plots_of_sweep_so_far(rows)), *main], others)


def result_plots_of(run: Run) -> list[Plot]:
    """Return the plots of what a finished run reports."""
    if run.kind == RunKind.REWARD_EVALUATION:
        axes = (run.result or {}).get("axes", {})
        return [plot for axis, report in axes.items() for plot in plots_of_axis(axis, report)]
    result = run.result or {}
    if run.kind == RunKind.REJECTION_SAMPLING:
        return plots_of_sampling(result)
    return [
        *plots_of_obedience(result),
        *plots_of_distillation(result),
        *plots_of_result(run.result),
    ]


def events_of(run: Run) -> list[Event]:
    """Return the last things that a run found worth saying in words, in their order."""
    rows = RunMetric.objects.filter(run=run, values__has_key="event").order_by("-step")
    found = [Event(*row) for row in rows.values_list("step", "values__event")[:MAX_EVENTS]]
    return found[::-1]


def inputs_of(run: Run) -> list[RunFile]:
    """Return what a run reads, each with the names it is known by."""
    inputs = RunInput.objects.filter(run=run).select_related("artifact").order_by("role")
    return _named((item.role, item.artifact) for item in inputs)


def outputs_of(run: Run) -> list[RunFile]:
    """Return what a run has made."""
    outputs = RunOutput.objects.filter(run=run).select_related("artifact").order_by("name")
    return _named((item.name, item.artifact) for item in outputs)


def log_tail(run: Run) -> str:
    """Return the last lines of the run's log; empty where it lies on another machine."""
    return last_lines(run.directory.root / "log.txt")


def config_rows(run: Run) -> list[tuple[str, object, str]]:
    """Return path, value and meaning of every field of the run's config."""
    return describe_config(CONFIGS[RunKind(run.kind)], run.config)


def summary_rows(summary: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    """Return the plain numbers and words of a run's result."""
    plain = (int, float, str)
    return [(name, value) for name, value in (summary or {}).items() if isinstance(value, plain)]


def names_of(artifact_ids: Iterable[int]) -> dict[int, tuple[Known, ...]]:
    """Return the versions, snapshots and sets that artifacts are known as; four queries."""
    ids = list(artifact_ids)
    names: dict[int, tuple[Known, ...]] = {}
    tables: tuple[tuple[QuerySet[Any], str], ...] = (
        (PolicyVersion.objects.all(), "policy"),
        (RewardModelVersion.objects.all(), "reward-model"),
        (Snapshot.objects.all(), ""),
        (DemonstrationSet.objects.all(), "demonstration-set"),
    )
    for table, page in tables:
        for row in table.filter(artifact__in=ids).order_by("pk"):
            known = Known(str(row), reverse(page, args=[row.pk]) if page else "")
            names[row.artifact_id] = (*names.get(row.artifact_id, ()), known)
    return names


def _named(items: Iterable[tuple[str, Artifact]]) -> list[RunFile]:
    files = list(items)
    names = names_of(artifact.pk for _, artifact in files)
    return [RunFile(role, artifact, names.get(artifact.pk, ())) for role, artifact in files]
