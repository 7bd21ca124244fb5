"""What the pages of policies show: how good each version is, and everything it came from."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from annotation.models import Guidelines, Round
from records.run_configs import RunKind
from registry.models import PolicyVersion, RewardModelVersion, Run, RunInput
from registry.selectors import Lineage, lineage_of
from webapp.drawing import format_percent
from webapp.instruction_plots import plots_of_obedience
from webapp.plots import Bar, BarSeries, Plot, bar_chart


class Evaluation(NamedTuple):
    """A finished comparison of a policy with a baseline."""

    run: Run
    baseline: str
    summary: dict[str, Any]


class Obedience(NamedTuple):
    """A finished measure of persistence, with its plots."""

    run: Run
    plots: list[Plot]


class PolicyRow(NamedTuple):
    """A policy in the list, with its newest evaluation."""

    policy: PolicyVersion
    evaluation: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class PolicyOrigin:
    """Everything a policy came from, down to rounds and guidelines."""

    lineage: Lineage
    rounds: list[Round]
    guidelines: list[Guidelines]
    reward_models: list[RewardModelVersion]


def policy_rows() -> list[PolicyRow]:
    """Return all policies, the newest first, each with its newest evaluation."""
    policies = list(
        PolicyVersion.objects.select_related("artifact", "parent", "iteration", "run").order_by(
            "-pk"
        )
    )
    evaluations = evaluations_of({policy.artifact_id for policy in policies})
    return [
        PolicyRow(policy, next(iter(evaluations.get(policy.artifact_id, [])), None))
        for policy in policies
    ]


def evaluations_of(artifact_ids: set[int]) -> dict[int, list[Evaluation]]:
    """Return the finished evaluations of these artifacts as candidates, the newest first."""
    inputs = (
        RunInput.objects.filter(
            role="policy",
            artifact__in=artifact_ids,
            run__kind=RunKind.EVALUATION,
            run__state=Run.State.FINISHED,
        )
        .select_related("run")
        .order_by("-run")
    )
    runs = list(inputs)
    baselines = _baseline_names({item.run_id for item in runs})
    found: dict[int, list[Evaluation]] = {}
    for item in runs:
        evaluation = Evaluation(item.run, baselines.get(item.run_id, ""), item.run.result or {})
        found.setdefault(item.artifact_id, []).append(evaluation)
    return found


def newest_obedience(policy: PolicyVersion) -> Obedience | None:
    """Return the newest measure of how long a policy keeps to an instruction."""
    item = (
        RunInput.objects.filter(
            role="policy",
            artifact=policy.artifact_id,
            run__kind=RunKind.PERSISTENCE,
            run__state=Run.State.FINISHED,
        )
        .select_related("run")
        .order_by("-run")
        .first()
    )
    return Obedience(item.run, plots_of_obedience(item.run.result or {})) if item else None


def origin_of(policy: PolicyVersion) -> PolicyOrigin:
    """Return the lineage of a policy with the rounds, guidelines and reward models in it."""
    lineage = lineage_of(policy)
    rounds = list(
        Round.objects.filter(name__in=lineage.round_names)
        .select_related("guidelines")
        .order_by("pk")
    )
    seen = {round_.guidelines_id: round_.guidelines for round_ in rounds}
    runs = [step.run.pk for step in lineage.steps if step.run.kind == RunKind.REWARD_MODEL]
    models = RewardModelVersion.objects.filter(run__in=runs).order_by("-pk")
    return PolicyOrigin(
        lineage=lineage,
        rounds=rounds,
        guidelines=list(seen.values()),
        reward_models=list(models),
    )


def win_rate_plot(rows: list[PolicyRow], plot_id: str = "win-rates") -> Plot:
    """Return the win rate of each version against its baseline, the oldest first."""
    judged = [row for row in reversed(rows) if _has(row, "win_rate")][-12:]
    return bar_chart(
        plot_id=plot_id,
        title="Win rate against the baseline",
        value_label="win rate",
        y_range=(0.0, 1.0),
        reference=0.5,
        write=format_percent,
        series=[BarSeries("win rate", [_bar(row, "win_rate") for row in judged])],
    )


def violation_plot(rows: list[PolicyRow], plot_id: str = "violations") -> Plot:
    """Return the violation rate of each version, the oldest first."""
    judged = [row for row in reversed(rows) if _has(row, "violation_rate")][-12:]
    return bar_chart(
        plot_id=plot_id,
        title="Violation rate",
        value_label="violation rate",
        write=format_percent,
        series=[
            BarSeries("version", [_bar(row, "violation_rate") for row in judged]),
            BarSeries("its baseline", [_bar(row, "baseline_violation_rate") for row in judged]),
        ],
    )


def _has(row: PolicyRow, name: str) -> bool:
    return row.evaluation is not None and isinstance(row.evaluation.summary.get(name), (int, float))


def _bar(row: PolicyRow, name: str) -> Bar:
    """Return one figure of an evaluation as a bar; one that is not there is not drawn."""
    assert row.evaluation is not None
    summary = row.evaluation.summary
    count = summary.get("num_prompts")
    return Bar(
        row.policy.name,
        float("nan") if summary.get(name) is None else summary[name],
        summary.get(f"{name}_low"),
        summary.get(f"{name}_high"),
        "" if count is None else f"{count:,}",
    )


def _baseline_names(run_ids: set[int]) -> dict[int, str]:
    baselines = RunInput.objects.filter(run__in=run_ids, role="baseline")
    artifacts = dict(baselines.values_list("run", "artifact"))
    versions = PolicyVersion.objects.filter(artifact__in=artifacts.values()).order_by("-pk")
    names = dict(versions.values_list("artifact", "name"))
    return {run: names.get(artifact, "") for run, artifact in artifacts.items()}
