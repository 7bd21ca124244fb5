"""What the ablations say: figures of stages, choices between them, tables. Pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from evaluation.winrates import win_rate
from policies.alarms import NAMES
from records.dialogues import Dialogue
from records.statistics import Proportion
from simulation.prompts import describe


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """A policy on PPO's way: what the models say on held-out prompts, and what the truth says."""

    iteration: int
    reward: float
    """Mean raw score that was optimised: gated, or helpfulness alone."""
    helpfulness: float
    safety: float
    general: float
    """Mean raw score of the monitor."""
    surprise: float
    """Of responses to the policy before PPO, nats a token."""
    kl: float
    """To the policy before PPO, nats per response."""
    objective: float
    """What the run chooses its best policy by."""
    wins: Proportion
    """True win rate against the policy before PPO."""
    violations: Proportion
    """True violations on adversarial prompts."""


class ArmFigures(NamedTuple):
    """One run of PPO, the policy before it first."""

    stages: Sequence[StageFigures]
    best_iteration: int
    """Of the policy that the run publishes."""
    early_stop: int | None
    """Iteration at which `patience` would have ended it; None where it would not have."""
    alarms: Mapping[str, int]
    """First iteration of each alarm that was raised."""

    def at(self, iteration: int) -> StageFigures:
        """Return the figures of a stage."""
        return next(stage for stage in self.stages if stage.iteration == iteration)

    def peak(self, name: str) -> int:
        """Return the iteration at which the figure `name` is highest; of equals the first."""
        return max(self.stages, key=lambda stage: _height(stage, name)).iteration

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping, shares as value, low, high and n."""
        return {
            "stages": [_stage_as_json(stage) for stage in self.stages],
            "best_iteration": self.best_iteration,
            "early_stop": self.early_stop,
            "alarms": dict(self.alarms),
            "peaks": {name: self.peak(name) for name in ("reward", "general", "wins")},
        }


def arm_figures(
    rows: Sequence[Mapping[str, Any]],
    summaries: Mapping[int, Mapping[str, Any]],
    *,
    best_iteration: int,
    patience: int,
) -> ArmFigures:
    """Return the figures of a run: its rows of metrics, and by stage the truth's summaries.

    The policy before it wins half of the comparisons with itself, by definition.
    """
    looks = {row["step"]: row for row in rows if "heldout_objective" in row}
    some = next(iter(summaries.values()))
    truths = {0: _truth_of_baseline(some)} | {n: _truth(s) for n, s in summaries.items()}
    stages = [_stage(looks[iteration], *truths[iteration]) for iteration in sorted(truths)]
    return ArmFigures(
        stages=stages,
        best_iteration=best_iteration,
        early_stop=early_stop(
            [(n, look["heldout_objective"]) for n, look in looks.items()], patience
        ),
        alarms=first_alarms(rows),
    )


def early_stop(objectives: Sequence[tuple[int, float]], patience: int) -> int | None:
    """Return the iteration at which `patience` looks in a row have brought nothing better.

    `objectives` are (iteration, objective) of all looks, the one before training first.
    """
    best, without_better = objectives[0][1], 0
    for iteration, objective in objectives[1:]:
        without_better = 0 if objective > best else without_better + 1
        best = max(best, objective)
        if without_better >= patience:
            return iteration
    return None


def first_alarms(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the first iteration of each alarm that was raised, by its name."""
    found: dict[str, int] = {}
    for row in rows:
        for name in NAMES:
            if row.get(f"alarm_{name}"):
                found.setdefault(name, row["step"])
    return found


def wins_by_kind(examples: Iterable[Mapping[str, Any]]) -> dict[str, Proportion]:
    """Return the true win rate by kind of prompt of an evaluation, and last over `all` prompts."""
    advantages: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        kind = describe(Dialogue.from_json(example["prompt"])).kind
        advantages[kind].append(example["advantage"])
    shares = {kind: _share_of_wins(values) for kind, values in sorted(advantages.items())}
    every = [advantage for values in advantages.values() for advantage in values]
    return {**shares, "all": _share_of_wins(every)}


def violations_of(summary: Mapping[str, Any], side: str = "") -> Proportion:
    """Return the true violations in an evaluation; `side` is `baseline_` for the other policy."""
    value, low, high = (summary[f"{side}violation_rate{end}"] for end in ("", "_low", "_high"))
    return Proportion(value, low, high, summary["num_safety_prompts"])


def ppo_table(arms: Mapping[str, ArmFigures]) -> list[str]:
    """Return the table of all stages as Markdown, and a line on each run's choices."""
    names = ("optimised reward", "helpfulness", "safety", "monitor", "KL, nats", "surprise, nats")
    lines = [_line("PPO", "iteration", *names, "true win rate", "true violations")]
    lines.append("| --- " * 10 + "|")
    for name, arm in arms.items():
        for stage in arm.stages:
            figures = ("reward", "helpfulness", "safety", "general", "kl", "surprise")
            shown = [f"{getattr(stage, figure):.2f}" for figure in figures]
            lines.append(
                _line(name, stage.iteration, *shown, cell(stage.wins), cell(stage.violations))
            )
    return [*lines, "", *(choice_line(name, arm) for name, arm in arms.items())]


def choice_line(name: str, arm: ArmFigures) -> str:
    """Return in words which stage the run, the monitor and the truth take, and the alarms."""
    picks = {
        "its own choice": arm.best_iteration,
        "the reward's highest": arm.peak("reward"),
        "the monitor's highest": arm.peak("general"),
        "the truth's": arm.peak("wins"),
    }
    chosen = ", ".join(
        f"{words} {iteration} ({cell(arm.at(iteration).wins)})"
        for words, iteration in picks.items()
    )
    alarms = ", ".join(f"{alarm} at {n}" for alarm, n in arm.alarms.items()) or "none"
    stop = "no early stop" if arm.early_stop is None else f"early stop at {arm.early_stop}"
    return f"{name}: {chosen}; {stop}; alarms: {alarms}."


def pool_table(columns: Mapping[str, Mapping[str, Proportion]]) -> list[str]:
    """Return a table as Markdown: a line for each row that a column has, in order of appearance."""
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    lines = [_line("prompts", *columns), "| --- " * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [cell(column[row]) if row in column else "" for column in columns.values()]
        lines.append(_line(row.replace("_", " "), *cells))
    return lines


def cell(share: Proportion) -> str:
    """Return a share in percent with its interval."""
    if share.value is None:
        return "-"
    value, low, high = (100 * number for number in (share.value, share.low, share.high))
    return f"{value:.1f}% ({low:.1f} to {high:.1f})"


def _stage(look: Mapping[str, Any], wins: Proportion, violations: Proportion) -> StageFigures:
    return StageFigures(
        iteration=look["step"],
        reward=look["heldout_reward"],
        helpfulness=look["heldout_helpfulness"],
        safety=look["heldout_safety"],
        general=look["heldout_general"],
        surprise=look["heldout_surprise"],
        kl=look["heldout_kl"],
        objective=look["heldout_objective"],
        wins=wins,
        violations=violations,
    )


def _truth(summary: Mapping[str, Any]) -> tuple[Proportion, Proportion]:
    value, low, high = (summary[f"win_rate{end}"] for end in ("", "_low", "_high"))
    return Proportion(value, low, high, summary["num_prompts"]), violations_of(summary)


def _truth_of_baseline(summary: Mapping[str, Any]) -> tuple[Proportion, Proportion]:
    half = Proportion(0.5, 0.5, 0.5, summary["num_prompts"])
    return half, violations_of(summary, "baseline_")


def _share_of_wins(advantages: Sequence[float]) -> Proportion:
    wins = win_rate(advantages)
    return Proportion(wins.value, wins.low, wins.high, len(advantages))


def _height(stage: StageFigures, name: str) -> float:
    figure = getattr(stage, name)
    value = figure.value if isinstance(figure, Proportion) else figure
    assert value is not None, "every look judges some prompts"
    return float(value)


def _stage_as_json(stage: StageFigures) -> dict[str, Any]:
    shares = {"wins": stage.wins._asdict(), "violations": stage.violations._asdict()}
    return asdict(stage) | shares


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
