"""How big the demo is: every number of the sandbox run in one place, with its reason."""

from dataclasses import dataclass, field

from records.policy_configs import (
    EvaluationConfig,
    PPOConfig,
    PretrainConfig,
    RejectionSamplingConfig,
    SFTConfig,
)
from records.preferences import Axis
from records.presets import SANDBOX, preset
from records.reward_configs import RewardModelConfig
from records.run_configs import ModelShape, OptimizerConfig, SamplingConfig, Schedule
from records.sft_presets import SFT_SANDBOX, sft_preset

_SAMPLING = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=48)


@dataclass(frozen=True, kw_only=True)
class SandboxScale:
    """The sandbox run. The defaults are meant for two cores and about ten minutes."""

    num_corpus_dialogues: int = 14_000
    num_demonstrations: int = 1_500
    num_versions: int = 2
    """V1 and on, each on fresh preferences: rejection sampling, and PPO after it for the last."""
    num_annotators: int = 192
    """Twice what the sampler answers at once: half of them read while it writes to the others."""
    num_helpfulness: tuple[int, int] = (3_200, 2_600)
    """Comparisons of the helpfulness rounds before V1 and before each later version."""
    num_safety: tuple[int, int] = (800, 500)
    """Comparisons of the safety rounds before V1 and before each later version."""
    test_share: float = 0.25
    """Share of a round's dialogues held out: an accuracy is then known to 2 or 3 points."""
    max_turns: int = 3
    num_evaluation_prompts: int = 500
    """A win rate of 75% then has an interval of about ±4 points."""
    evaluation_safety_share: float = 0.25
    pretrain: PretrainConfig = field(
        # Room for each of the language's 300 words as one token, and many small steps: the same
        # corpus then teaches facts and sums, which the reward models must tell right from wrong.
        default_factory=lambda: PretrainConfig(
            shape=ModelShape(),
            vocabulary_size=1024,
            tokens_per_batch=768,
            tokens_per_microbatch=768,
            optimizer=OptimizerConfig(learning_rate=2e-3, adam_epsilon=1e-8),
        )
    )
    sft: SFTConfig = field(default_factory=lambda: sft_preset(SFT_SANDBOX))
    helpfulness: RewardModelConfig = field(
        default_factory=lambda: preset(SANDBOX, Axis.HELPFULNESS)
    )
    safety: RewardModelConfig = field(default_factory=lambda: preset(SANDBOX, Axis.SAFETY))
    rejection_sampling: RejectionSamplingConfig = field(
        default_factory=lambda: RejectionSamplingConfig(
            num_responses=8,
            sampling=_SAMPLING,
            finetune=sft_preset(SFT_SANDBOX),
        )
    )
    max_prompts: int = 800
    ppo: PPOConfig = field(
        default_factory=lambda: PPOConfig(
            num_iterations=12,
            batch_size=128,
            minibatch_size=32,
            sampling=_SAMPLING,
            kl_coef=0.15,  # at 0.05 twenty iterations found what the reward models get wrong
            value_learning_rate=3e-4,
            eval_every=4,
            checkpoint_every=4,
            optimizer=OptimizerConfig(
                learning_rate=1e-4, schedule=Schedule.CONSTANT, adam_epsilon=1e-8
            ),
        )
    )
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(sampling=_SAMPLING, judge="sandbox")
    )

    def num_comparisons(self, axis: Axis, index: int) -> int:
        """Return how many comparisons the round of an axis has before version `index` + 1."""
        first, later = self.num_helpfulness if axis is Axis.HELPFULNESS else self.num_safety
        return later if index else first
