"""The configuration of every run that makes, improves or compares policies."""

from dataclasses import dataclass, field

from records.errors import RecordError
from records.fields import bounded
from records.ppo_choices import (
    AlarmConfig,
    KLEstimator,
    KLScope,
    RewardNetwork,
    TruncationRule,
    ValueNetwork,
    WhitenScope,
)
from records.run_configs import ModelShape, OptimizerConfig, RunConfig, SamplingConfig, Schedule
from records.servers import LOCAL, check_engine_name
from records.sweeps import check_sweep_temperatures


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
