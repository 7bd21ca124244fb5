"""The configuration of every run: one frozen dataclass each, one text per field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from records.errors import RecordError
from records.fields import Config, bounded
from records.ppo_choices import (
    AlarmConfig,
    KLEstimator,
    KLScope,
    RewardNetwork,
    TruncationRule,
    ValueNetwork,
    WhitenScope,
)
from records.preferences import Axis, Rating
from records.servers import LOCAL, check_engine_name
from records.sweeps import check_sweep_temperatures


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


class MarginTable(StrEnum):
    """The margin each rating subtracts in the ranking loss (arXiv:2307.09288, Table 27).

    `custom` takes the numbers of `custom_margins`.
    """

    NONE = "none"
    SMALL = "small"
    LARGE = "large"
    CUSTOM = "custom"


MARGINS: dict[MarginTable, dict[Rating, float]] = {
    MarginTable.NONE: dict.fromkeys(Rating, 0.0),
    MarginTable.SMALL: dict(zip(Rating, (1.0, 2 / 3, 1 / 3, 0.0), strict=True)),
    MarginTable.LARGE: dict(zip(Rating, (3.0, 2.0, 1.0, 0.0), strict=True)),
}

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


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Train tokenizer and model from scratch on dialogues; the loss covers every token.

    Inputs: `demonstrations` (JSON Lines), optional `tokenizer` (a model directory whose tokenizer
    is taken, not trained). Outputs: `policy`.
    """

    shape: ModelShape = field(default_factory=ModelShape)
    """Size of the model."""
    vocabulary_size: int = bounded(512, low=64, high=65536)
    """Entries of the tokenizer, where it is trained on the corpus."""
    num_epochs: float = bounded(1.0, above=0.0, high=100.0)
    """Passes over the corpus."""
    tokens_per_batch: int = bounded(4096, low=64)
    """Real tokens in one optimizer step, at most."""
    max_tokens: int = bounded(256, low=16)
    """Longer dialogues lose their oldest exchanges, and are counted."""
    tokens_per_microbatch: int = bounded(1024, low=16)
    """Tokens in one forward pass; bounds memory and changes no result."""
    checkpoint_activations: bool = False
    """Keep only each layer's input for the backward pass: less memory, a third more work."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-3, adam_epsilon=1e-8)
    )
    """Optimizer and schedule."""


@dataclass(frozen=True, kw_only=True)
class SFTConfig(RunConfig):
    """Supervised fine-tuning: loss on responses only (arXiv:2307.09288, section 3.1).

    Inputs: `policy` (a model directory), `demonstrations` (JSON Lines). Outputs: `policy`.
    """

    num_epochs: float = bounded(2.0, above=0.0, high=100.0)
    """Passes over the demonstrations."""
    batch_size: int = bounded(64, low=1)
    """Demonstrations in one optimizer step, over all processes."""
    max_tokens: int = bounded(4096, low=16)
    """Longer rows lose their oldest exchanges, and are counted."""
    tokens_per_microbatch: int = bounded(16384, low=16)
    """Tokens in one forward pass; bounds memory and changes no result."""
    checkpoint_activations: bool = False
    """Keep only each layer's input for the backward pass: less memory, a third more work."""
    lora_rank: int = bounded(0, low=0, high=1024)
    """Rank of the adapters that are trained in place of all weights, and merged; 0 for none. They
    are also kept by themselves, so that PPO can go on from them on the weights below."""
    lora_alpha: int = bounded(32, low=1)
    """Adapters are scaled by this over their rank."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=2e-5))
    """Optimizer and schedule."""


class Whole(StrEnum):
    """Which preferences of its own axis a reward model takes whole; the rest is drawn from."""

    AXIS = "axis"
    COLLECTED = "collected"


@dataclass(frozen=True, kw_only=True)
class CustomMargins(Config):
    """A margin table of one's own, used where `margin_table` is custom."""

    significantly_better: float = bounded(1.0, low=0.0, high=100.0)
    """Margin of pairs rated significantly better."""
    better: float = bounded(2 / 3, low=0.0, high=100.0)
    """Margin of pairs rated better."""
    slightly_better: float = bounded(1 / 3, low=0.0, high=100.0)
    """Margin of pairs rated slightly better."""
    negligibly_better: float = bounded(0.0, low=0.0, high=100.0)
    """Margin of pairs rated negligibly better or unsure."""


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig(RunConfig):
    """Train a scalar head on comparisons (arXiv:2307.09288, section 3.2.2, equation 2).

    Inputs: `policy` (a model directory), `snapshot` (the newest), optional `mixture_0`,
    `mixture_1`, ... (further snapshots), optional `previous` (a reward model to compare with).
    Outputs: `reward_model`.
    """

    axis: Axis = Axis.HELPFULNESS
    """Which axis the model scores."""
    is_general: bool = False
    """Train the third, general model: it takes every preference of either axis, `axis` and the
    mixture play no part, and no policy is ever optimised against it. It is a monitor: where a
    policy's score rises and the general model's does not, the score is being gamed (section
    3.4.1). Give it imported sets."""
    whole: Whole = Whole.AXIS
    """What is trained on whole: axis takes every preference of the own axis (the paper's safety
    model), collected only those judged here (the paper's helpfulness model)."""
    other_axis_share: float = bounded(0.1, low=0.0, high=0.9)
    """Share of training pairs drawn, uniformly and by the seed, from all preferences that are not
    taken whole: the other axis and, where `whole` is collected, imported ones of either axis. 0.5
    adds an equal amount, 0.1 mixes 90/10; where there are too few, all of them are taken."""
    data_share: float = bounded(1.0, above=0.0, high=1.0)
    """Share of the training pairs that is learned from, drawn by the seed; smaller shares lie
    within larger ones. Below 1 the run is a point of a scaling curve and makes no version."""
    made_share: float = bounded(0.0, low=0.0, high=0.9)
    """Share of the pairs learned from that nobody judged: a chosen response against the same one
    damaged, or against the answer to another prompt (arXiv:2409.13156). A monitor learns from them
    what no comparison shows, and so sees it when a policy writes it; 0.5 adds as many as there are
    comparisons. Not in the paper."""
    margin_table: MarginTable = MarginTable.SMALL
    """Margin subtracted in the ranking loss, by rating; which one the paper's final models used is
    not stated."""
    custom_margins: CustomMargins = field(default_factory=CustomMargins)
    """The margins where `margin_table` is custom."""
    safety_loss_weight: float = bounded(0.0, low=0.0, high=10.0)
    """Weight of the auxiliary classification loss on safety bins, whose border between safe and
    unsafe is a score of 0; 0 turns it off. The paper states no weight."""
    num_epochs: float = bounded(1.0, above=0.0, high=100.0)
    """Passes over the pairs; the paper saw over-fitting beyond one."""
    pairs_per_batch: int = bounded(512, low=1)
    """Comparisons in one optimizer step, over all processes."""
    max_tokens: int = bounded(4096, low=16)
    """Longer rows lose their oldest exchanges; pairs that become identical are skipped, counted."""
    tokens_per_microbatch: int = bounded(16384, low=16)
    """Tokens in one forward pass; bounds memory and changes no result."""
    checkpoint_activations: bool = False
    """Keep only each layer's input for the backward pass: less memory, a third more work."""
    lora_rank: int = bounded(0, low=0, high=1024)
    """Rank of the adapters that are trained in place of all weights, and merged; 0 for none. They
    are also kept by themselves, so that PPO can put them on one base with its own."""
    lora_alpha: int = bounded(32, low=1)
    """Adapters are scaled by this over their rank."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and schedule."""

    @property
    def scope(self) -> str:
        """What the model's version is filed under: its axis, or `general`."""
        return GENERAL if self.is_general else self.axis.value

    @property
    def margins(self) -> Mapping[Rating, float]:
        """Margin of each rating."""
        if self.margin_table is not MarginTable.CUSTOM:
            return MARGINS[self.margin_table]
        return {rating: getattr(self.custom_margins, rating.value) for rating in Rating}


@dataclass(frozen=True, kw_only=True)
class RewardEvaluationConfig(RunConfig):
    """Report how good a reward model is on held-out comparisons.

    Inputs: `reward_model`, `snapshot` (the newest), optional `mixture_0`, `mixture_1`, ... (further
    snapshots; the held-out side of each is taken), optional `previous` (a reward model to compare
    with on the same pairs). Outputs: `report`.
    """

    axis: Axis | None = None
    """Report on pairs of this axis only; empty reports on both, each by itself."""
    safety_threshold: float = bounded(0.5, low=0.0, high=1.0)
    """A response whose score (as a share of one) is below this is called unsafe, for recall and
    precision. 0.5, a raw score of 0, is the paper's (Table 29)."""
    num_reliability_bins: int = bounded(10, low=1, high=100)
    """Bins of the reliability curve, between a confidence of 0.5 and 1."""
    disagreement_confidence: float = bounded(0.9, low=0.5, high=1.0)
    """A pair goes on the list of disagreements where the model is at least this sure that people
    chose the worse response."""
    max_disagreements: int = bounded(1000, low=0)
    """Most pairs on that list, the surest first."""
    num_position_pairs: int = bounded(256, low=0)
    """Pairs scored side by side in both orders, to look for a bias of position; 0 leaves it out."""
    num_resamples: int = bounded(2000, low=100, high=100_000)
    """Resamples of the bootstrap intervals."""
    max_tokens: int = bounded(4096, low=16)
    """As in training."""
    tokens_per_microbatch: int = bounded(16384, low=16)
    """Tokens in one forward pass, padding included; bounds memory and changes no result."""


@dataclass(frozen=True, kw_only=True)
class RejectionSamplingConfig(RunConfig):
    """Sample K responses a prompt, keep the best, fine-tune on it (section 3.2.3).

    Inputs: `policy` (sampled from), `start` (fine-tuned; the base model by the paper's reading),
    `prompts` (JSON Lines), `helpfulness`, `safety` (reward models), optional `general` (a reward
    model that scores the responses too, and by which none is chosen), optional `pool` (the samples
    kept by earlier iterations). Outputs: `policy`, `pool`, `demonstrations` (what was selected, to
    fine-tune other policies on).
    """

    num_responses: int = bounded(8, low=1, high=1024)
    """K, responses sampled per prompt."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=1.2))
    """How the K responses are drawn; the paper's best temperature is 1.2 to 1.3."""
    sweep_temperatures: tuple[float, ...] = bounded((), above=0.0, high=5.0)
    """Temperatures tried before the prompts are sampled, 2 to 32 of them; the one with the best
    expected best of K takes the place of sampling.temperature. Empty tries none. The paper finds it
    anew every round; its figure 8 tries 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4 and 1.5."""
    num_sweep_prompts: int = bounded(100, low=2, high=10_000)
    """Prompts that each of these temperatures is tried on with K responses, spread evenly over all
    of them; all where there are fewer."""
    engine: str = LOCAL
    """What draws them: local, the run itself, or the name of a server in the operator's file."""
    pool_size: int = bounded(2, low=0, high=64)
    """Best responses per prompt handed to later iterations."""
    score_function: str = "rewardmodels.scoring:load_score_fn"
    """`module:function` that loads the score function from the reward-model directories."""
    safety_threshold: float = bounded(0.15, low=0.0, high=1.0)
    """The gate: below this safety score the safety model decides (section 3.2.3)."""
    rows_per_batch: int = bounded(256, low=1)
    """Responses sampled or scored at once."""
    finetune: SFTConfig = field(default_factory=SFTConfig)
    """How the start model is fine-tuned on the selected responses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_engine_name(self.engine)
        check_sweep_temperatures(self.sweep_temperatures)


@dataclass(frozen=True, kw_only=True)
class PPOConfig(RunConfig):
    """Proximal policy optimisation against the gated reward (section 3.2.3, equations 3 and 4).

    Inputs: `policy`, `reference`, `prompts`, `heldout_prompts` (JSON Lines), `helpfulness`,
    `safety` (reward models; the value model starts from the helpfulness one), optional `general`
    (a reward model that is never optimised against: it watches over the held-out prompts).
    Outputs: `policy` (the best on held-out prompts), `value`.
    """

    num_iterations: int = bounded(200, low=1, high=100_000)
    """Rounds of sample, score, update; the paper ran 200 to 400."""
    batch_size: int = bounded(512, low=1)
    """Prompts, hence responses, per iteration."""
    minibatch_size: int = bounded(64, low=1)
    """Responses in one gradient step."""
    tokens_per_microbatch: int = bounded(16384, low=16)
    """Tokens in one forward pass; bounds memory and changes no result."""
    checkpoint_activations: bool = False
    """Keep only each layer's input for the backward pass: less memory, a third more work."""
    lora_rank: int = bounded(0, low=0, high=1024)
    """Rank of the adapters that are trained in place of all weights: policy and value model then
    stand on one base, and the reference is that base with its adapters off. So `policy` is
    `reference`, or was fine-tuned from it with a lora_rank of its own, which it keeps. 0 for none.
    """
    lora_alpha: int = bounded(32, low=1)
    """Adapters are scaled by this over their rank."""
    num_epochs: int = bounded(1, low=1, high=16)
    """Passes over each iteration's responses; the paper takes one step per minibatch."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How responses are drawn. Probabilities are taken at the same temperature."""
    engine: str = LOCAL
    """What draws them: local, the run itself, or the name of a vLLM in the operator's file, which
    is handed the policy's weights before each iteration."""
    clip_range: float = bounded(0.2, above=0.0, high=1.0)
    """PPO clips the probability ratio to 1 ± this."""
    value_clip_range: float = bounded(0.2, above=0.0)
    """Value predictions are clipped to the old value ± this in the value loss."""
    value_loss_coef: float = bounded(0.1, low=0.0, high=10.0)
    """Weight of the value loss; it matters where policy and value share layers."""
    value_network: ValueNetwork = ValueNetwork.SEPARATE
    """separate: a network of its own that starts as the helpfulness reward model. shared: a head on
    the policy's layers that starts at 0; one pass serves both, and the value loss moves both."""
    reward_network: RewardNetwork = RewardNetwork.AUTO
    """With `lora_rank`: adapters puts the reward models on the one base too, as the adapters they
    were trained as, and refuses models that were not trained so on this very base; whole leaves
    them beside it; auto takes adapters where it can, and says in the log why not."""
    gamma: float = bounded(1.0, low=0.0, high=1.0)
    """Discount per token. Not stated in the paper."""
    gae_lambda: float = bounded(0.95, low=0.0, high=1.0)
    """Lambda of generalised advantage estimation. Not stated in the paper."""
    has_whitened_advantages: bool = True
    """Whether advantages are whitened over the iteration's response tokens. Not stated."""
    kl_coef: float = bounded(0.01, low=0.0, high=10.0)
    """Beta of equation 4: 0.01 for 7B and 13B, 0.005 for 34B and 70B."""
    kl_estimator: KLEstimator = KLEstimator.K1
    """Estimator that is subtracted: k1 = d, k2 = d² / 2 or k3 = exp(-d) - 1 + d of the difference d
    of log-probabilities. The divergence that is reported is the same tensor."""
    kl_scope: KLScope = KLScope.TOKEN
    """token: each token pays its own estimate. sequence: the last token pays one estimate of the
    whole response, of the summed difference. Not stated in the paper."""
    kl_target: float = bounded(0.0, low=0.0)
    """KL per response, in nats, that beta is steered to after every iteration; 0 keeps beta fixed,
    as the paper does."""
    kl_gain: float = bounded(0.1, above=0.0, high=1.0)
    """How fast beta is steered: at most by a fifth of this an iteration (arXiv:1909.08593,
    section 2.2)."""
    whiten_scope: WhitenScope = WhitenScope.BATCH
    """Mean and deviation that whiten the gated score: batch, those of the iteration's responses;
    running, of all responses so far; start, of the held-out responses before training. Not stated
    in the paper."""
    safety_threshold: float = bounded(0.15, low=0.0, high=1.0)
    """The gate: below this safety score the safety model decides."""
    score_function: str = "rewardmodels.scoring:load_score_fn"
    """`module:function` that loads the score function; `policies.noise:load_score_fn` is noise."""
    truncation: TruncationRule = TruncationRule.PENALTY
    """What a response is paid that never ended. penalty: its whitened score less the penalty.
    replace: minus the penalty, whatever its score. bootstrap: no score, but the value of the state
    it was cut in, for the episode has not ended. Not stated in the paper."""
    truncation_penalty: float = bounded(1.0, low=0.0)
    """The penalty, in deviations of whitened scores."""
    value_learning_rate: float = bounded(1e-5, above=0.0, high=1.0)
    """Constant learning rate of the value model."""
    eval_every: int = bounded(10, low=1)
    """Iterations between two looks at the held-out prompts."""
    patience: int = bounded(5, low=1)
    """Looks without a better held-out reward before the run stops early."""
    rows_per_batch: int = bounded(256, low=1)
    """Responses sampled or scored at once."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-6, schedule=Schedule.CONSTANT)
    )
    """Optimizer of the policy."""
    alarms: AlarmConfig = field(default_factory=AlarmConfig)
    """What raises an alarm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_network is RewardNetwork.ADAPTERS and not self.lora_rank:
            raise RecordError("reward_network", "adapters needs a lora_rank of at least 1")
        check_engine_name(self.engine)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(RunConfig):
    """Compare a policy with a baseline on held-out prompts.

    Inputs: `policy`, `baseline`, `reference` (for the KL), `prompts` (JSON Lines), `helpfulness`,
    `safety` (reward models), optional `general` (the monitor). Outputs: none but the result.
    """

    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.7, top_p=0.9)
    )
    """How both policies answer."""
    engine: str = LOCAL
    """What draws the policy's responses: local, the run itself, or the name of a server in the
    operator's file."""
    baseline_engine: str = LOCAL
    """What draws the baseline's. The same server for both is one that loads any folder, or that
    weights can be handed to."""
    judge: str = "reward"
    """Who decides the win: reward (the gated score) or sandbox (the true utilities)."""
    safety_threshold: float = bounded(0.15, low=0.0, high=1.0)
    """The gate of the combined score."""
    score_function: str = "rewardmodels.scoring:load_score_fn"
    """`module:function` that loads the score function."""
    rows_per_batch: int = bounded(256, low=1)
    """Responses sampled or scored at once."""
    num_examples: int = bounded(40, low=0)
    """Responses kept word for word in the result, for people to read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_engine_name(self.engine)
        check_engine_name(self.baseline_engine, "baseline_engine")
