"""Runs as the workers leave them: with metrics, results and versions."""

from typing import Any

from records.run_configs import RunConfig, RunKind
from records.run_kinds import CONFIGS
from registry import services
from registry.models import Artifact, Iteration, PolicyVersion, RewardModelVersion, Run
from tests.factories import make_artifact
from tests.registry.factories import claimed, make_run, write_outputs

EVALUATION = {
    "win_rate": 0.7,
    "win_rate_low": 0.65,
    "win_rate_high": 0.74,
    "violation_rate": 0.08,
    "violation_rate_low": 0.05,
    "violation_rate_high": 0.12,
    "baseline_violation_rate": 0.3,
    "reward": 0.61,
    "baseline_reward": 0.48,
    "kl": 6.25,
    "num_prompts": 500,
    "mean_tokens": 27.0,
    "score_histogram": {"edges": [0.0, 0.5, 1.0], "policy": [100, 400], "baseline": [300, 200]},
    "examples": [
        {
            "prompt": {"system": "", "turns": [{"role": "user", "text": "Add 2 and 3."}]},
            "response": "2 + 3 = 5",
            "baseline_response": "six, I think",
        }
    ],
}


def accuracy(value: float, num_pairs: int = 100) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": num_pairs, "ties": 0}


REWARD_MODEL: dict[str, Any] = {
    "accuracy": {"overall": accuracy(0.76), "significantly_better": accuracy(0.91, 40)},
    "previous_accuracy": {"overall": accuracy(0.71), "significantly_better": accuracy(0.8, 40)},
    "length_baseline": {"overall": accuracy(0.55)},
    "num_test": 100,
    "loss": 0.5,
}


def running_run(
    kind: RunKind = RunKind.PPO, *, config: RunConfig | None = None, **values: Any
) -> tuple[Run, Any]:
    """Return a claimed run and its token."""
    return claimed(make_run(kind, config=config or CONFIGS[kind](), **values))


def failed_run(message: str = "loss is nan") -> Run:
    run, token = running_run(RunKind.SFT)
    failure = {"error": "FloatingPointError", "message": message, "traceback": "line 1\nline 2"}
    return services.fail_run(run=run, token=token, failure=failure)


def finished_run(
    kind: RunKind,
    summary: dict[str, Any],
    *,
    inputs: dict[str, Artifact] | None = None,
    outputs: dict[str, str] | None = None,
    **values: Any,
) -> Run:
    run, token = running_run(kind, inputs=inputs, **values)
    result = write_outputs(run, summary, **(outputs or {}))
    return services.finish_run(run=run, token=token, result=result)


def evaluated(policy: PolicyVersion, baseline: PolicyVersion, **summary: Any) -> Run:
    """Return a finished evaluation of `policy` against `baseline`."""
    return finished_run(
        RunKind.EVALUATION,
        {**EVALUATION, **summary},
        inputs={"policy": policy.artifact, "baseline": baseline.artifact},
    )


def trained_reward_model(name: str, snapshot: Artifact | None = None) -> RewardModelVersion:
    run = finished_run(
        RunKind.REWARD_MODEL,
        REWARD_MODEL,
        inputs={"policy": make_artifact(), **({"snapshot": snapshot} if snapshot else {})},
        outputs={"reward_model": f"weights of {name}"},
        output_name=name,
    )
    return RewardModelVersion.objects.get(run=run)


def waiting_for_decision(iteration: Iteration) -> tuple[PolicyVersion, Run]:
    """Bring an iteration to its last stage; return candidate and evaluation."""
    stage = Iteration.Stage
    made = finished_run(
        RunKind.REJECTION_SAMPLING,
        {"loss": 0.5},
        inputs={"start": iteration.base_policy.artifact},
        outputs={"policy": f"weights of {iteration.name}"},
        iteration=iteration,
        stage=stage.REJECTION_SAMPLING,
        output_name=iteration.name,
    )
    candidate = PolicyVersion.objects.get(run=made)
    evaluation = finished_run(
        RunKind.EVALUATION,
        EVALUATION,
        inputs={"policy": candidate.artifact, "baseline": iteration.previous_policy.artifact},
        iteration=iteration,
        stage=stage.EVALUATION,
        name=f"{iteration.name}: evaluation",
    )
    services.set_iteration_stage(
        iteration=iteration, stage=stage.PROMOTION, expected=stage.SNAPSHOT
    )
    return candidate, evaluation
