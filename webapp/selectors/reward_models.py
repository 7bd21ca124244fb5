"""What the page of a reward model shows: what it learned from, and its newest report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db.models import QuerySet

from annotation.models import Judgement
from records.run_configs import RunKind
from registry.models import RewardModelVersion, Run, RunInput
from webapp.drawing import format_number, format_percent
from webapp.plots import Plot
from webapp.report_plots import data_curve, plots_of_axis
from webapp.selectors.disagreements import uuid_of
from workers.reports import SHARES, scaling_runs

_NUM_DISAGREEMENTS = 30


class Stat(NamedTuple):
    """One figure with its name and a remark."""

    name: str
    value: str
    note: str


class AxisView(NamedTuple):
    """What a report says of one axis."""

    axis: str
    stats: list[Stat]
    plots: list[Plot]


class Disagreement(NamedTuple):
    """A pair on which the model is sure of the opposite."""

    preference_id: str
    judgement_id: int | None
    """None where it was not judged here."""
    round_name: str
    rating: str
    confidence: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class ReportView:
    """A finished evaluation of a reward model."""

    run: Run
    axes: list[AxisView]
    disagreements: list[Disagreement]
    num_skipped: int


def newest_report(version: RewardModelVersion) -> ReportView | None:
    """Return the newest finished report on a reward model; two queries."""
    item = (
        _evaluations(version)
        .filter(run__state=Run.State.FINISHED)
        .select_related("run")
        .order_by("-run")
        .first()
    )
    if item is None or not item.run.result:
        return None
    result = item.run.result
    # The model's own axis first.
    axes = sorted(result["axes"].items(), key=lambda pair: (pair[0] != version.axis, pair[0]))
    return ReportView(
        run=item.run,
        axes=[AxisView(axis, stats_of(r), plots_of_axis(axis, r)) for axis, r in axes],
        disagreements=_disagreements(result.get("disagreements", [])[:_NUM_DISAGREEMENTS]),
        num_skipped=sum(result.get("skipped", {}).values()),
    )


class Scaling(NamedTuple):
    """A reward model's curve over data: its shares' runs, measured on the same held-out pairs."""

    plot: Plot | None
    """None until a share has finished."""
    unfinished: list[Run]
    can_start: bool
    """Whether a run of ours trained the model, and shares are missing."""


def scaling_of(version: RewardModelVersion) -> Scaling:
    """Return how accuracy grew with the pairs that `version` learned from."""
    runs = scaling_runs(version)
    finished = [run for _, run in runs if run.state == Run.State.FINISHED and run.result]
    unfinished = [run for _, run in runs if run.state in (Run.State.QUEUED, Run.State.RUNNING)]
    done = {share for share, run in runs if run in finished or run in unfinished}
    results = [run.result or {} for run in finished]
    return Scaling(
        plot=data_curve([*results, version.metrics]) if results else None,
        unfinished=unfinished,
        can_start=version.run_id is not None and not done.issuperset(SHARES),
    )


def running_reports(version: RewardModelVersion) -> list[Run]:
    """Return the reports on a reward model that are waiting or being made."""
    unfinished = [Run.State.QUEUED, Run.State.RUNNING]
    items = _evaluations(version).filter(run__state__in=unfinished).select_related("run")
    return [item.run for item in items.order_by("-run")]


def stats_of(report: Mapping[str, Any]) -> list[Stat]:
    """Return the figures of one axis that are read first."""
    overall = report["accuracy"]["overall"]
    stats = [
        Stat(
            "Accuracy",
            _percent(overall["value"]),
            f"{_percent(overall['low'])} to {_percent(overall['high'])}, "
            f"{overall['n']:,} pairs, {overall['ties']:,} ties",
        )
    ]
    stats += _gain("Gain over the predecessor", report.get("previous"))
    stats += _gain("Gain over length", report.get("length_baseline"))
    stats.append(
        Stat(
            "Calibration error",
            _percent(report["expected_calibration_error"]),
            f"loss {_number(report['loss'])}",
        )
    )
    if report.get("unsafe"):
        stats += _unsafe(report["unsafe"])
    bias = report["length_bias"]
    stats.append(
        Stat(
            "Prefers the longer one",
            _percent(bias["model_prefers_longer"]["value"]),
            f"people {_percent(bias['human_prefers_longer']['value'])}",
        )
    )
    position = report.get("position_bias")
    if position:
        note = f"of {position['num_pairs']:,}, largest change {_number(position['max_difference'])}"
        stats.append(Stat("Flipped by order", f"{position['num_flipped']:,}", note))
    return stats


def _gain(name: str, other: Mapping[str, Any] | None) -> list[Stat]:
    gain = (other or {}).get("gain")
    if not gain:
        return []
    interval = f"{_signed(gain['low'])} to {_signed(gain['high'])}"
    counts = f"won {gain['num_better']:,}, lost {gain['num_worse']:,}"
    note = f"{interval}; {counts}, p {_number(gain['p_value'])}"
    return [Stat(name, _signed(gain["difference"]), note)]


def _unsafe(unsafe: Mapping[str, Any]) -> list[Stat]:
    recall, precision = unsafe["recall"], unsafe["precision"]
    return [
        Stat(
            "Unsafe found",
            _percent(recall["value"]),
            f"{unsafe['num_hits']:,} of {unsafe['num_unsafe']:,}, "
            f"below a score of {_number(unsafe['threshold'])}",
        ),
        Stat(
            "Called unsafe, rightly",
            _percent(precision["value"]),
            f"{unsafe['num_hits']:,} of {unsafe['num_called_unsafe']:,}",
        ),
    ]


def _disagreements(items: Iterable[Mapping[str, Any]]) -> list[Disagreement]:
    rows = list(items)
    uuids = [uuid for row in rows if (uuid := uuid_of(row["preference_id"])) is not None]
    found = Judgement.objects.filter(uuid__in=uuids).values_list("uuid", "pk")
    judgements = {str(uuid): pk for uuid, pk in found}
    return [
        Disagreement(
            row["preference_id"],
            judgements.get(row["preference_id"]),
            row["round_name"],
            row["rating"] or "",
            row["confidence"],
            row["chosen_score"] - row["rejected_score"],
        )
        for row in rows
    ]


def _evaluations(version: RewardModelVersion) -> QuerySet[RunInput]:
    return RunInput.objects.filter(
        role="reward_model", artifact=version.artifact_id, run__kind=RunKind.REWARD_EVALUATION
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else format_percent(value)


def _number(value: float | None) -> str:
    return "–" if value is None else format_number(value)


def _signed(value: float) -> str:
    return f"+{format_percent(value)}" if value > 0 else format_percent(value)
