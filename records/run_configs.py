"""What the configuration of every run has, and the parts that several kinds of run share."""

from dataclasses import dataclass
from enum import StrEnum

from records.fields import Config, bounded


class RunKind(StrEnum):
    """What a run does; `records.run_kinds` has each kind's config class and command."""

    IMPORT = "import"
    PRETRAIN = "pretrain"
    SFT = "sft"
    REWARD_MODEL = "reward_model"
    REWARD_EVALUATION = "reward_evaluation"
    REJECTION_SAMPLING = "rejection_sampling"
    PPO = "ppo"
    GHOST_ATTENTION = "ghost_attention"
    CONTEXT_DISTILLATION = "context_distillation"
    EVALUATION = "evaluation"
    PERSISTENCE = "persistence"


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"


GENERAL = "general"
"""The scope of the reward model that belongs to no axis."""


@dataclass(frozen=True, kw_only=True)
class ModelShape(Config):
    """The size of a Llama made from scratch; the defaults are the sandbox's."""

    hidden_size: int = bounded(128, low=8)
    """Width D of the residual stream; a multiple of `num_heads`."""
    intermediate_size: int = bounded(352, low=8)
    """Width of the feed-forward layers."""
    num_layers: int = bounded(4, low=1)
    """Number of decoder layers."""
    num_heads: int = bounded(4, low=1)
    """Number of attention heads (and of key-value heads)."""
    max_positions: int = bounded(512, low=16)
    """Longest row in tokens that the model accepts."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """AdamW as the paper sets it (arXiv:2307.09288, sections 2.2 and 3)."""

    learning_rate: float = bounded(1e-5, above=0.0, high=1.0)
    """Highest learning rate, reached after warm-up."""
    schedule: Schedule = Schedule.COSINE
    """Shape of the learning rate after warm-up."""
    min_learning_rate_ratio: float = bounded(0.1, low=0.0, high=1.0)
    """Final learning rate of the cosine schedule as a share of the highest."""
    warmup_ratio: float = bounded(0.03, low=0.0, high=1.0)
    """Share of all steps spent warming up linearly from zero."""
    min_warmup_steps: int = bounded(5, low=0)
    """Fewest warm-up steps, whatever the ratio gives."""
    weight_decay: float = bounded(0.1, low=0.0, high=1.0)
    """Decoupled weight decay."""
    adam_beta1: float = bounded(0.9, low=0.0, high=0.9999)
    """Decay of the first moment."""
    adam_beta2: float = bounded(0.95, low=0.0, high=0.99999)
    """Decay of the second moment."""
    adam_epsilon: float = bounded(1e-5, above=0.0, high=1.0)
    """Term added to the denominator of the update."""
    max_grad_norm: float = bounded(1.0, above=0.0)
    """Gradients are clipped to this global norm."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How responses are drawn from a policy."""

    temperature: float = bounded(1.0, low=0.0, high=5.0)
    """Divides the logits; 0 means greedy."""
    top_p: float = bounded(1.0, above=0.0, high=1.0)
    """Smallest set of tokens whose probability reaches this share; 1 keeps all."""
    max_new_tokens: int = bounded(64, low=1, high=4096)
    """Longest response in tokens, the end-of-sequence token included."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """What every run shares."""

    seed: int = bounded(0, low=0, high=2**31 - 1)
    """Seeds every random choice of the run."""
    num_threads: int = bounded(0, low=0, high=256)
    """CPU threads torch may use; 0 leaves the choice to torch."""
    num_processes: int = bounded(0, low=0, high=1024)
    """Processes that share the run, one for each GPU of its host; 0 takes as many as its worker
    offers."""
    dtype: str = "float32"
    """Type in which models compute: float32 or bfloat16; the weights that are trained are float32
    in either case."""
    device: str = "auto"
    """auto takes a GPU where there is one; cpu and cuda insist."""
    checkpoint_every: int = bounded(50, low=1)
    """Optimizer steps (PPO: iterations) between two checkpoints."""
    log_every: int = bounded(1, low=1)
    """Optimizer steps between two rows of metrics."""
