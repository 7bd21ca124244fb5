"""The configuration of an iteration: what it learns from, and the configs of its runs."""

from dataclasses import dataclass, field
from enum import StrEnum

from records.errors import RecordError
from records.fields import Config, bounded
from records.policy_configs import EvaluationConfig, PPOConfig, RejectionSamplingConfig
from records.ppo_choices import RewardNetwork
from records.preferences import Axis
from records.reward_configs import RewardModelConfig


class Algorithm(StrEnum):
    """How an iteration improves the policy (arXiv:2307.09288, section 3.2.3)."""

    REJECTION_SAMPLING = "rejection_sampling"
    REJECTION_SAMPLING_PPO = "rejection_sampling_ppo"


class Gate(StrEnum):
    """What a new reward model must show against its predecessor on the newest held-out pairs."""

    OFF = "off"
    NOT_WORSE = "not_worse"
    BETTER = "better"


class PPOReference(StrEnum):
    """The frozen policy of the KL term."""

    START = "start"
    BASE = "base"


class RejectionSamplingStart(StrEnum):
    """The policy that rejection sampling fine-tunes."""

    BASE = "base"
    NEWEST = "newest"


class RewardModelStart(StrEnum):
    """The policy whose layers an iteration's reward models start from."""

    NEWEST = "newest"
    BASE = "base"


class Promotion(StrEnum):
    """Who decides whether the candidate may serve annotators."""

    LEAD = "lead"
    WINNER = "winner"


class Monitor(StrEnum):
    """The general reward model that watches over an iteration's policies (section 3.4.1)."""

    OFF = "off"
    NEWEST = "newest"
    TRAINED = "trained"


@dataclass(frozen=True, kw_only=True)
class IterationConfig(Config):
    """One turn of the loop, from snapshot over reward models and policies to promotion.

    Raises:
        RecordError: A reward model's config is for another axis, or is general where it must not
            be, or is not where it must, or learns from a share of its pairs; or PPO insists on
            adapters of one base, which other settings keep it from.
    """

    rounds: tuple[int, ...] = ()
    """Ids of the rounds whose judgements are frozen into this iteration's snapshot."""
    snapshot: int | None = None
    """Id of a snapshot that is already frozen; taken instead of `rounds`."""
    mixture: tuple[int, ...] | None = None
    """Ids of earlier snapshots mixed in, newest first; empty takes those of earlier iterations."""
    test_share: float = bounded(0.1, low=0.0, high=0.9)
    """Share of dialogues held out of training when the snapshot is frozen."""
    algorithm: Algorithm = Algorithm.REJECTION_SAMPLING
    """rejection_sampling alone, or followed by PPO (rejection_sampling_ppo)."""
    prompts: str = ""
    """Digest of the prompts that policies are trained on; empty draws them from the snapshot."""
    heldout_prompts: str = ""
    """Digest of the prompts on which PPO stops early; empty draws from the snapshot's test side."""
    evaluation_prompts: str = ""
    """Digest of the prompts of the evaluation; empty draws from the snapshot's test side."""
    max_prompts: int = bounded(10_000, low=1)
    """Most prompts drawn from a snapshot, for each use."""
    gate: Gate = Gate.NOT_WORSE
    """not_worse stops the iteration where a reward model's accuracy is below its predecessor's by
    more than the 95% Wilson interval allows for chance; better stops it unless it is above; off
    never stops it."""
    rejection_sampling_start: RejectionSamplingStart = RejectionSamplingStart.BASE
    """What rejection sampling fine-tunes: base, from which every version restarts (the paper's
    reading), or newest, the policy that is sampled from. A base smaller than the newest, with its
    tokenizer, learns from the larger policy's responses: distillation."""
    has_pool: bool = True
    """Whether the best samples of the previous iteration compete with the fresh ones."""
    ppo_reference: PPOReference = PPOReference.START
    """The KL term's frozen policy: start, where PPO begins, or base, what the iteration began
    from."""
    reward_model_start: RewardModelStart = RewardModelStart.NEWEST
    """What reward models start from: newest, the policy that is sampled from, or base, the one that
    is fine-tuned. With base, lora_rank above 0 in helpfulness, safety, rejection_sampling.finetune
    and ppo, and ppo_reference base, PPO holds one base and adapters for all of them."""
    promotion: Promotion = Promotion.LEAD
    """lead waits for a person; winner promotes by itself a candidate that beats the baseline."""
    promotion_win_rate: float = bounded(0.5, low=0.0, high=1.0)
    """A winner's win rate exceeds this with the lower end of its 95% interval, and its violation
    rate, where the judge can tell, is not above the baseline's."""
    helpfulness: RewardModelConfig = field(default_factory=RewardModelConfig)
    """The helpfulness reward model."""
    safety: RewardModelConfig = field(
        default_factory=lambda: RewardModelConfig(axis=Axis.SAFETY, safety_loss_weight=1.0)
    )
    """The safety reward model."""
    monitor: Monitor = Monitor.OFF
    """The general reward model that scores responses and is never optimised against: off for none,
    newest for the newest there is, such as one trained on open sets by hand, trained to train one
    on this iteration's snapshots. Where the reward rises and its score falls, the reward is gamed.
    """
    general_model: RewardModelConfig = field(
        default_factory=lambda: RewardModelConfig(is_general=True, made_share=0.5)
    )
    """The general reward model, where the monitor is trained; no gate is before it."""
    rejection_sampling: RejectionSamplingConfig = field(default_factory=RejectionSamplingConfig)
    """Rejection sampling."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """PPO, where the algorithm has it."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """The comparison with the baseline."""

    def __post_init__(self) -> None:
        super().__post_init__()
        axes = {Axis.HELPFULNESS: self.helpfulness, Axis.SAFETY: self.safety}
        for axis, config in axes.items():
            if config.axis is not axis:
                raise RecordError(f"{axis}.axis", f"{config.axis} is not {axis}")
            if config.is_general:
                raise RecordError(f"{axis}.is_general", f"the {axis} model belongs to its axis")
        if not self.general_model.is_general:
            raise RecordError("general_model.is_general", "false makes it a model of one axis")
        for name, config in (*axes.items(), ("general_model", self.general_model)):
            if config.data_share < 1.0:
                raise RecordError(f"{name}.data_share", "an iteration learns from all of its pairs")
        has_ppo = self.algorithm is Algorithm.REJECTION_SAMPLING_PPO
        if has_ppo and self.ppo.reward_network is RewardNetwork.ADAPTERS:
            self._check_one_base()

    def _check_one_base(self) -> None:
        ranks = {
            "helpfulness": self.helpfulness.lora_rank,
            "safety": self.safety.lora_rank,
            "rejection_sampling.finetune": self.rejection_sampling.finetune.lora_rank,
        }
        needed = "ppo.reward_network, which is adapters, needs"
        for name, rank in ranks.items():
            if not rank:
                raise RecordError(f"{name}.lora_rank", f"{needed} at least 1")
        if self.rejection_sampling_start is not RejectionSamplingStart.BASE:
            raise RecordError("rejection_sampling_start", f"{needed} base")
        if self.ppo_reference is not PPOReference.BASE:
            raise RecordError("ppo_reference", f"{needed} base")
        if self.reward_model_start is not RewardModelStart.BASE:
            raise RecordError("reward_model_start", f"{needed} base")
