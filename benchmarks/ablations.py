"""Ablations on the sandbox: PPO without the gate, PPO without KL, iterations without the pool.

Figures are of real runs of the demo's size and configs, judged by the truth of the simulation. Runs
lie in `.concord/bench/ablations`, where the next start finds those that are finished.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ablation_figures import (
    ArmFigures,
    arm_figures,
    pool_table,
    ppo_table,
    violations_of,
    wins_by_kind,
)
from benchmarks.calibration import calibrate
from benchmarks.finished import finished_run, ppo_in_stages, summary_of
from benchmarks.frame import HOME, Result
from benchmarks.sandbox_world import SandboxWorld, alone, build_world
from records.policy_configs import PPOConfig
from records.preferences import Axis
from records.prompts import Prompt, write_prompts
from records.rundirs import RunDirectory
from records.statistics import Proportion
from simulation.corpus import sample_prompts
from workers.demo.scales import SandboxScale

FOLDER = HOME / "ablations"
AS_THE_DEMO, WITHOUT_GATE, WITHOUT_KL = "as the demo", "without gate", "without KL"
V1, WITH_POOL, WITHOUT_POOL = "V1", "V2 with pool", "V2 without pool"
AGAINST = "V2 with against without"
_TRAINING, _HELD_OUT, _JUDGED, _NEWEST, _JUDGED_BY_KIND = range(50, 55)
"""Seeds of prompts: no two uses share a random stream."""


@dataclass(frozen=True, kw_only=True)
class AblationScale:
    """How big the ablations are; the defaults take about 25 minutes on a quiet core."""

    sandbox: SandboxScale = field(default_factory=SandboxScale)
    num_general_pairs: tuple[int, int] = (4500, 1500)
    """Comparisons of helpfulness and of safety that the monitor learns from."""
    num_iterations: int = 40
    """Of PPO. The demo has 12; over-optimisation wants more."""
    stage: int = 5
    """Iterations between two looks, each followed by a judgement."""
    num_held_out: int = 200
    num_judged: int = 800
    judged_safety_share: float = 0.5
    """Half of the prompts that judge PPO are adversarial: both rates are known to 3 to 5 points."""
    newest_safety_share: float = 0.75
    """The second round of rejection sampling asks mostly for harm, as the demo's safety rounds do,
    so that its samples alone show little of what the first round's showed."""
    num_judged_by_kind: int = 2000


class Arm(NamedTuple):
    """One way to run PPO."""

    config: PPOConfig
    is_tagged: bool
    """Whether the gate knows which prompts were made to elicit harm."""


class Place(NamedTuple):
    """Where the ablations lie, how big they are, and the models that all begin from."""

    folder: Path
    scale: AblationScale
    world: SandboxWorld


class Figures(NamedTuple):
    """What the ablations say."""

    accuracy: Mapping[str, float]
    """Of each reward model on its held-out pairs."""
    ppo: Mapping[str, ArmFigures]
    pool: Mapping[str, Mapping[str, Proportion]]
    """By policy: true win rates by kind of prompt, and true violations."""
    selections: Mapping[str, Mapping[str, float]]
    """By policy: what it was fine-tuned on."""


def run() -> Result:
    """Run PPO in three ways and a second iteration in two, from one SFT policy."""
    before = calibrate()
    scale = AblationScale()
    figures = measure(FOLDER, scale)
    for line in [*ppo_table(figures.ppo), "", *pool_table(figures.pool)]:
        _say(line)
    last = {name: arm.stages[-1].wins.value or 0.0 for name, arm in figures.ppo.items()}
    return Result(
        name="ablations",
        unit=f"true win rate against SFT after {scale.num_iterations} iterations of PPO; "
        "the peer is PPO without KL",
        ours=round(last[AS_THE_DEMO], 4),
        peer=round(last[WITHOUT_KL], 4),
        peer_version="the same without KL",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={
            "reward_model_accuracy": figures.accuracy,
            "ppo": {name: arm.to_json() for name, arm in figures.ppo.items()},
            "pool": {
                name: {row: share._asdict() for row, share in column.items()}
                for name, column in figures.pool.items()
            },
            "selections": figures.selections,
        },
    )


def measure(folder: Path, scale: AblationScale) -> Figures:
    """Return the figures of all runs in `folder`, done now as far as they are not there."""
    counts = dict(zip(Axis, scale.num_general_pairs, strict=True))
    world = build_world(folder, scale.sandbox, num_general_pairs=counts)
    accuracy = {name: round(a["overall"]["value"], 4) for name, a in world.accuracy.items()}
    _say(f"accuracy of the reward models: {accuracy}")
    place = Place(folder, scale, world)
    ppo = {name: _ppo_figures(place, name, arm) for name, arm in arms(scale).items()}
    pool, selections = _pool_figures(place)
    return Figures(accuracy, ppo, pool, selections)


def arms(scale: AblationScale) -> dict[str, Arm]:
    """Return the ways to run PPO by name; each differs from the first in what its name says.

    Without tags and with a threshold of 0 no score is low enough for the safety model to decide:
    the reward is helpfulness alone. None stops early, so that the curves are of one length; when
    the demo's patience would have ended them is reported.
    """
    demo = replace(
        alone(scale.sandbox.ppo),
        num_iterations=scale.num_iterations,
        eval_every=scale.stage,
        checkpoint_every=scale.stage,
        patience=scale.num_iterations,
    )
    return {
        AS_THE_DEMO: Arm(demo, is_tagged=True),
        WITHOUT_GATE: Arm(replace(demo, safety_threshold=0.0), is_tagged=False),
        WITHOUT_KL: Arm(replace(demo, kl_coef=0.0), is_tagged=True),
    }


def untagged(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """Yield prompts of which nobody knows that they were made to elicit harm."""
    return (replace(prompt, is_safety=False) for prompt in prompts)


def _ppo_figures(place: Place, name: str, arm: Arm) -> ArmFigures:
    """Return the figures of one way, each stage judged as soon as it is there."""
    scale, world = place.scale, place.world
    root = place.folder / name.replace(" ", "-")
    num_prompts = scale.sandbox.max_prompts
    inputs = {
        "policy": world.sft,
        "reference": world.sft,
        "prompts": _prompts(place, _TRAINING, num_prompts, is_tagged=arm.is_tagged),
        "heldout_prompts": _prompts(place, _HELD_OUT, scale.num_held_out, is_tagged=arm.is_tagged),
        **world.reward_models,
    }
    judging = _prompts(place, _JUDGED, scale.num_judged, safety_share=scale.judged_safety_share)
    summaries: dict[int, Mapping[str, Any]] = {}
    for stage in ppo_in_stages(root, arm.config, inputs):
        label = f"{root.name}-{stage.iteration:02d}"
        summary = _judged(place, label, stage.policy, world.sft, judging)
        summaries[stage.iteration] = summary
        shown = ("win_rate", "violation_rate", "reward", "general", "kl")
        _say(f"{label}: { ({key: round(summary[key], 3) for key in shown}) }")
    directory = RunDirectory(root)
    return arm_figures(
        directory.read_metrics()[0],
        summaries,
        best_iteration=summary_of(directory)["best_iteration"],
        patience=scale.sandbox.ppo.patience,
    )


def _pool_figures(
    place: Place,
) -> tuple[dict[str, dict[str, Proportion]], dict[str, dict[str, float]]]:
    """Return the true figures of V1 and of V2 in two ways, and what each was fine-tuned on.

    Both V2 are the base model fine-tuned on the best of V1's samples for the newest prompts; one on
    the best that the first iteration kept besides. The reward models are the same.
    """
    scale, world = place.scale, place.world
    runs = _pool_runs(place)
    judging = _prompts(place, _JUDGED_BY_KIND, scale.num_judged_by_kind)
    policies = {name: run.outputs / "policy" for name, run in runs.items()}
    columns = {
        name: _column(_judged(place, name.replace(" ", "-"), policy, world.sft, judging))
        for name, policy in policies.items()
    }
    duel = _judged(
        place, AGAINST.replace(" ", "-"), policies[WITH_POOL], policies[WITHOUT_POOL], judging
    )
    columns[AGAINST] = wins_by_kind(duel["examples"])
    keys = ("num_selected", "selected_score", "share_from_pool")
    selections = {name: {key: summary_of(run)[key] for key in keys} for name, run in runs.items()}
    return columns, selections


def _pool_runs(place: Place) -> dict[str, RunDirectory]:
    scale, world = place.scale, place.world
    config, num_prompts = alone(scale.sandbox.rejection_sampling), scale.sandbox.max_prompts
    start = {"start": world.base, **world.optimised}
    prompts = _prompts(place, _TRAINING, num_prompts)
    first = finished_run(
        place.folder / "V1", config, {**start, "policy": world.sft, "prompts": prompts}
    )
    newest = _prompts(place, _NEWEST, num_prompts, safety_share=scale.newest_safety_share)
    inputs = {**start, "policy": first.outputs / "policy", "prompts": newest}
    pool = {"pool": first.outputs / "pool.jsonl"}
    return {
        V1: first,
        WITH_POOL: finished_run(place.folder / "V2-with-pool", config, {**inputs, **pool}),
        WITHOUT_POOL: finished_run(place.folder / "V2-without-pool", config, inputs),
    }


def _column(summary: Mapping[str, Any]) -> dict[str, Proportion]:
    violations = violations_of(summary)
    return wins_by_kind(summary["examples"]) | {"violations, adversarial": violations}


def _judged(
    place: Place, label: str, policy: Path, baseline: Path, prompts: Path
) -> Mapping[str, Any]:
    """Return the truth's summary of `policy` against `baseline`, with an example of each prompt."""
    num_prompts = max(place.scale.num_judged, place.scale.num_judged_by_kind)
    config = alone(replace(place.scale.sandbox.evaluation, num_examples=num_prompts))
    inputs = {
        "policy": policy,
        "baseline": baseline,
        "reference": place.world.sft,
        "prompts": prompts,
        **place.world.reward_models,
    }
    return summary_of(finished_run(place.folder / "evaluations" / label, config, inputs))


def _prompts(
    place: Place,
    seed: int,
    count: int,
    *,
    safety_share: float | None = None,
    is_tagged: bool = True,
) -> Path:
    """Return a file of prompts, with the demo's share of adversarial ones where none is said."""
    share = place.scale.sandbox.evaluation_safety_share if safety_share is None else safety_share
    prompts = sample_prompts(seed, count, share)
    path = place.folder / f"prompts-{seed}{'' if is_tagged else '-untagged'}.jsonl"
    write_prompts(path, prompts if is_tagged else untagged(prompts))
    return path


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
