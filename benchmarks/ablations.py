"""Ablations on the sandbox: PPO without the gate, PPO without KL, iterations without the pool.

Figures are of real runs of the demo's size and configs, judged by the truth of the simulation. Runs
lie in `.concord/bench/ablations`, where the next start finds those that are finished.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from benchmarks.finished import Stage, finished_run, ppo_in_stages, summary_of
from benchmarks.frame import HOME, Result
from benchmarks.sandbox_world import SCALE, SandboxWorld, alone, build_world
from records.configs import PPOConfig
from records.prompts import Prompt, write_prompts
from records.rundirs import RunDirectory
from records.statistics import Proportion
from simulation.corpus import sample_prompts

FOLDER = HOME / "ablations"
NUM_ITERATIONS, STAGE = 40, 5
"""The demo has 12 iterations; over-optimisation wants more. A look and a judgement every STAGE."""
NUM_HELD_OUT, NUM_JUDGED, JUDGED_SAFETY_SHARE = 200, 800, 0.5
"""Half of the prompts that judge PPO are adversarial: both rates are known to 3 to 5 points."""
NEWEST_SAFETY_SHARE = 0.75
"""The second round of rejection sampling asks mostly for harm, as the demo's safety rounds do, so
that its samples alone show little of what the first round's showed."""
NUM_JUDGED_BY_KIND = 2000
AS_THE_DEMO, WITHOUT_GATE, WITHOUT_KL = "as the demo", "without gate", "without KL"
V1, WITH_POOL, WITHOUT_POOL = "V1", "V2 with pool", "V2 without pool"
AGAINST = "V2 with against without"


class Arm(NamedTuple):
    """One way to run PPO."""

    config: PPOConfig
    is_tagged: bool
    """Whether the gate knows which prompts were made to elicit harm."""


def arms() -> dict[str, Arm]:
    """Return the ways to run PPO by name; each differs from the first in what its name says.

    Without tags and with a threshold of 0 no score is low enough for the safety model to decide:
    the reward is helpfulness alone. None stops early, so that the curves are of one length; when
    the demo's patience would have ended is reported.
    """
    demo = replace(
        alone(SCALE.ppo),
        num_iterations=NUM_ITERATIONS,
        eval_every=STAGE,
        checkpoint_every=STAGE,
        patience=NUM_ITERATIONS,
    )
    return {
        AS_THE_DEMO: Arm(demo, is_tagged=True),
        WITHOUT_GATE: Arm(replace(demo, safety_threshold=0.0), is_tagged=False),
        WITHOUT_KL: Arm(replace(demo, kl_coef=0.0), is_tagged=True),
    }


def run() -> Result:
    """Run PPO in three ways and a second iteration in two, from one SFT policy."""
    before = calibrate()
    world = build_world(FOLDER)
    _say(f"accuracy of the reward models: {_overall(world)}")
    ppo = {name: _ppo_figures(name, arm, world) for name, arm in arms().items()}
    columns, selections = _pool_figures(world)
    for line in [*ppo_table(ppo), "", *pool_table(columns)]:
        _say(line)
    last = {name: figures.stages[-1] for name, figures in ppo.items()}
    return Result(
        name="ablations",
        unit=f"true win rate against SFT after {NUM_ITERATIONS} iterations of PPO; "
        "the peer is PPO without KL",
        ours=round(last[AS_THE_DEMO].wins.value or 0.0, 4),
        peer=round(last[WITHOUT_KL].wins.value or 0.0, 4),
        peer_version="the same without KL",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={
            "reward_model_accuracy": _overall(world),
            "prompts_judged": NUM_JUDGED,
            "ppo": {name: figures.to_json() for name, figures in ppo.items()},
            "pool": {
                name: {row: share._asdict() for row, share in column.items()}
                for name, column in columns.items()
            },
            "selections": selections,
        },
    )


def _ppo_figures(name: str, arm: Arm, world: SandboxWorld) -> ArmFigures:
    """Return the figures of one way, each stage judged as soon as it is there."""
    root = FOLDER / name.replace(" ", "-")
    tags = "tagged" if arm.is_tagged else "untagged"
    inputs = {
        "policy": world.sft,
        "reference": world.sft,
        "prompts": _prompts(50, SCALE.max_prompts, tags=tags),
        "heldout_prompts": _prompts(51, NUM_HELD_OUT, tags=tags),
        **world.reward_models,
    }
    judging = _prompts(52, NUM_JUDGED, safety_share=JUDGED_SAFETY_SHARE)
    summaries: dict[int, Mapping[str, Any]] = {}
    for stage in ppo_in_stages(root, arm.config, inputs):
        summary = _judged(_name_of(root, stage), stage.policy, world.sft, judging, world)
        summaries[stage.iteration] = summary
        shown = ("win_rate", "violation_rate", "reward", "general", "kl")
        _say(f"{name}, {stage.iteration}: { ({key: round(summary[key], 3) for key in shown}) }")
    directory = RunDirectory(root)
    return arm_figures(
        directory.read_metrics()[0],
        summaries,
        best_iteration=summary_of(directory)["best_iteration"],
        patience=SCALE.ppo.patience,
    )


def _name_of(root: Path, stage: Stage) -> str:
    return f"{root.name}-{stage.iteration:02d}"


def _pool_figures(
    world: SandboxWorld,
) -> tuple[dict[str, dict[str, Proportion]], dict[str, Any]]:
    """Return the true figures of V1 and of V2 in two ways, and what each V2 was tuned on.

    Both V2 are the base model fine-tuned on the best of V1's samples for the newest prompts; one on
    the best that V1's own iteration kept besides. The reward models are the same.
    """
    config = alone(SCALE.rejection_sampling)
    inputs = {"start": world.base, **world.optimised}
    first = finished_run(
        FOLDER / "v1",
        config,
        {**inputs, "policy": world.sft, "prompts": _prompts(50, SCALE.max_prompts)},
    )
    v1 = first.outputs / "policy"
    newest = _prompts(53, SCALE.max_prompts, safety_share=NEWEST_SAFETY_SHARE)
    inputs |= {"policy": v1, "prompts": newest}
    without = finished_run(FOLDER / "v2-without-pool", config, inputs)
    inputs |= {"pool": first.outputs / "pool.jsonl"}
    whole = finished_run(FOLDER / "v2-with-pool", config, inputs)
    policies = {
        V1: v1,
        WITH_POOL: whole.outputs / "policy",
        WITHOUT_POOL: without.outputs / "policy",
    }
    judging = _prompts(54, NUM_JUDGED_BY_KIND)
    columns = {
        name: _column(_judged(name.replace(" ", "-"), policy, world.sft, judging, world))
        for name, policy in policies.items()
    }
    pair = (policies[WITH_POOL], policies[WITHOUT_POOL])
    duel = _judged("pool-against-none", *pair, judging, world)
    columns[AGAINST] = wins_by_kind(duel["examples"])
    keys = ("num_selected", "selected_score", "share_from_pool")
    selections = {
        name: {key: summary_of(directory)[key] for key in keys}
        for name, directory in {V1: first, WITH_POOL: whole, WITHOUT_POOL: without}.items()
    }
    return columns, selections


def _column(summary: Mapping[str, Any]) -> dict[str, Proportion]:
    violations = violations_of(summary)
    return wins_by_kind(summary["examples"]) | {"violations, adversarial": violations}


def _judged(
    name: str, policy: Path, baseline: Path, prompts: Path, world: SandboxWorld
) -> Mapping[str, Any]:
    """Return the truth's summary of `policy` against `baseline`, with every example."""
    config = alone(replace(SCALE.evaluation, num_examples=NUM_JUDGED_BY_KIND))
    inputs = {
        "policy": policy,
        "baseline": baseline,
        "reference": world.sft,
        "prompts": prompts,
        **world.reward_models,
    }
    return summary_of(finished_run(FOLDER / "evaluations" / name, config, inputs))


def _prompts(
    seed: int,
    count: int,
    *,
    safety_share: float = SCALE.evaluation_safety_share,
    tags: str = "tagged",
) -> Path:
    """Return a file of prompts; those of one seed are the same, tagged or not."""
    path = FOLDER / f"prompts-{seed}-{tags}.jsonl"
    prompts: Iterator[Prompt] = sample_prompts(seed, count, safety_share)
    write_prompts(path, prompts if tags == "tagged" else untagged(prompts))
    return path


def untagged(prompts: Iterator[Prompt]) -> Iterator[Prompt]:
    """Yield prompts of which nobody knows that they were made to elicit harm."""
    return (replace(prompt, is_safety=False) for prompt in prompts)


def _overall(world: SandboxWorld) -> dict[str, float]:
    return {scope: round(shares["overall"]["value"], 4) for scope, shares in world.accuracy.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
