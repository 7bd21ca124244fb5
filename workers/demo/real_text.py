"""The demo on real text: hh-rlhf in, two reward models, rejection sampling and PPO once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotation.snapshots import import_preferences
from records.hh_rlhf import HHRLHF, import_hh_rlhf
from records.iteration_configs import Algorithm, Gate, IterationConfig, Promotion
from records.policy_configs import (
    EvaluationConfig,
    PPOConfig,
    PretrainConfig,
    RejectionSamplingConfig,
    SFTConfig,
)
from records.preferences import Axis
from records.prompts import Demonstration, write_demonstrations
from records.reward_configs import RewardModelConfig
from records.run_configs import ModelShape, OptimizerConfig, RunKind, SamplingConfig, Schedule
from registry.models import Artifact, PolicyVersion, RewardModelVersion, Run
from workers.demo.people import logins
from workers.demo.report import VersionFigures, accuracies
from workers.demo.runs import finished_iteration, finished_run, publish_lines
from workers.demo.screen import Screen

_MAX_TOKENS = 384
_SAMPLING = SamplingConfig(temperature=1.0, top_p=0.95, max_new_tokens=48)
_OPTIMIZER = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8)


def _reward_model(axis: Axis) -> RewardModelConfig:
    return RewardModelConfig(
        axis=axis,
        num_threads=1,
        pairs_per_batch=32,
        max_tokens=_MAX_TOKENS,
        optimizer=_OPTIMIZER,
    )


@dataclass(frozen=True, kw_only=True)
class RealTextScale:
    """The real-text run: a model far too small for English, trained to show the machinery."""

    max_prompts: int = 256
    pretrain: PretrainConfig = field(
        default_factory=lambda: PretrainConfig(
            shape=ModelShape(), vocabulary_size=4096, max_tokens=_MAX_TOKENS
        )
    )
    helpfulness: RewardModelConfig = field(default_factory=lambda: _reward_model(Axis.HELPFULNESS))
    safety: RewardModelConfig = field(default_factory=lambda: _reward_model(Axis.SAFETY))
    rejection_sampling: RejectionSamplingConfig = field(
        default_factory=lambda: RejectionSamplingConfig(
            num_responses=4,
            sampling=_SAMPLING,
            finetune=SFTConfig(
                num_epochs=1, batch_size=32, max_tokens=_MAX_TOKENS, optimizer=_OPTIMIZER
            ),
        )
    )
    ppo: PPOConfig = field(
        default_factory=lambda: PPOConfig(
            num_iterations=10,
            batch_size=64,
            minibatch_size=16,
            sampling=_SAMPLING,
            kl_coef=0.05,
            value_learning_rate=3e-4,
            eval_every=5,
            checkpoint_every=5,
            optimizer=OptimizerConfig(
                learning_rate=1e-4, schedule=Schedule.CONSTANT, adam_epsilon=1e-8
            ),
        )
    )
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(sampling=_SAMPLING, judge="reward")
    )


def run_real_text(screen: Screen, scale: RealTextScale, folder: Path) -> list[VersionFigures]:
    """Run or finish the demo on the hh-rlhf files below `folder`.

    Raises:
        RecordError: There are none, or a line is not a pair.
    """
    logins()
    screen.headline(f"Import of hh-rlhf from {folder}")
    data = import_hh_rlhf(folder)
    _say_what_was_read(screen, data)
    snapshot = import_preferences(
        preferences=data.preferences,
        name="hh-rlhf",
        splits=data.splits,
        selection={"source": "hh-rlhf", "num_read": data.report.num_read},
    )
    screen.headline("A tiny Llama, trained on the chosen dialogues of the train side")
    base = _base(screen, scale, data)
    screen.headline("Reward models, rejection sampling, PPO")
    iteration = finished_iteration(
        screen,
        name="hh-rlhf V1",
        config=IterationConfig(
            snapshot=snapshot.pk,
            mixture=(),
            algorithm=Algorithm.REJECTION_SAMPLING_PPO,
            max_prompts=scale.max_prompts,
            gate=Gate.OFF,
            promotion=Promotion.WINNER,
            promotion_win_rate=0.0,
            helpfulness=scale.helpfulness,
            safety=scale.safety,
            rejection_sampling=scale.rejection_sampling,
            ppo=scale.ppo,
            evaluation=scale.evaluation,
        ),
        base_policy=base,
        start_policy=base,
        previous_policy=base,
    )
    version = PolicyVersion.objects.filter(iteration=iteration).order_by("-pk").first()
    assert version is not None, "the iteration finished without a policy"
    evaluation = iteration.runs.get(kind=RunKind.EVALUATION)
    models = list(RewardModelVersion.objects.filter(iteration=iteration))
    return _figures(base, version, models, evaluation)


def _say_what_was_read(screen: Screen, data: HHRLHF) -> None:
    report = data.report
    screen.say(f"{report.num_kept} of {report.num_read} comparisons kept")
    for reason, count in report.skipped.most_common():
        screen.say(f"{count} skipped: {reason}")
    for reason, count in report.mended.most_common():
        screen.say(f"{count} mended: {reason}")


def _base(screen: Screen, scale: RealTextScale, data: HHRLHF) -> PolicyVersion:
    demonstrations = publish_lines(
        lambda path: write_demonstrations(
            path,
            (
                Demonstration(prompt=item.prompt, response=item.chosen, source=item.source)
                for item in data.preferences
                if data.splits[item.dialogue_id] == "train"
            ),
        ),
        Artifact.Kind.DEMONSTRATIONS,
    )
    finished_run(
        screen,
        name="hh-rlhf base",
        kind=RunKind.PRETRAIN,
        config=scale.pretrain,
        inputs={"demonstrations": demonstrations},
        output_name="hh-rlhf base",
    )
    return PolicyVersion.objects.get(name="hh-rlhf base")


def _figures(
    base: PolicyVersion,
    version: PolicyVersion,
    models: Sequence[RewardModelVersion],
    evaluation: Run,
) -> list[VersionFigures]:
    result = evaluation.result
    assert result is not None, f"{evaluation} finished without a result"
    itself = VersionFigures(
        name=base.name,
        win_rate=0.5,  # against itself, by definition
        win_rate_low=0.5,
        win_rate_high=0.5,
        reward=result["baseline_reward"],
        kl=0.0,
    )
    row = VersionFigures(
        name=version.name,
        win_rate=result["win_rate"],
        win_rate_low=result["win_rate_low"],
        win_rate_high=result["win_rate_high"],
        violation_rate=result["violation_rate"],
        accuracy={model.axis: accuracies(model.metrics) for model in models},
        reward=result["reward"],
        kl=result["kl"],
    )
    return [itself, row]
