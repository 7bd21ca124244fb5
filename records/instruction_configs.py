"""The configuration of Ghost Attention, of its measure, and of safety context distillation."""

from dataclasses import dataclass, field
from enum import StrEnum

from records.errors import RecordError
from records.fields import bounded
from records.policy_configs import SFTConfig
from records.run_configs import RunConfig, SamplingConfig
from records.servers import LOCAL, check_engine_name


class Placement(StrEnum):
    """Where an instruction stands that is given once, at the beginning of a dialogue.

    `user` puts it before the first user turn's words, `system` makes it the system prompt.
    """

    USER = "user"
    SYSTEM = "system"


class TrainedTurns(StrEnum):
    """Which responses of a sampled dialogue are trained on, each as the last of a row of its own.

    `last` takes the last one, as the paper does; `every` takes all of them.
    """

    LAST = "last"
    EVERY = "every"


@dataclass(frozen=True, kw_only=True)
class GhostAttentionConfig(RunConfig):
    """Ghost Attention: keep to the first turn's instruction (arXiv:2307.09288, section 3.3).

    Responses are sampled with the instruction before every user turn, and trained with it on the
    first turn only, the loss on the last response alone.

    Inputs: `policy` (sampled from), `start` (fine-tuned), `prompts` (what users say, JSON Lines),
    optional `constraints` (JSON Lines; else lists of our own), optional `helpfulness`, `safety`
    (reward models, which then choose among the responses), optional `demonstrations` (trained on
    beside). Outputs: `policy`, `demonstrations` (the rows it was trained on).
    """

    num_dialogues: int = bounded(1000, low=1, high=1_000_000)
    """Dialogues sampled; the paper states no number. Prompts are used again where they are few."""
    min_turns: int = bounded(2, low=2, high=100)
    """Fewest user turns of a dialogue."""
    max_turns: int = bounded(20, low=2, high=100)
    """Most user turns; their number is drawn uniformly. As many as an instruction is to outlast
    (20 in the paper's test): what is not trained is not always kept to. A prompt with fewer user
    turns goes on with those of others, as if the user changed the subject."""
    max_constraints: int = bounded(3, low=1, high=16)
    """Most constraints combined in one instruction, each of another category."""
    short_share: float = bounded(0.5, low=0.0, high=1.0)
    """Share of the trained rows in which the instruction is terse; the paper's is half."""
    placement: Placement = Placement.USER
    """Where the trained row has the instruction: before the first user turn's words (user) or in
    the system prompt (system)."""
    trained_turns: TrainedTurns = TrainedTurns.LAST
    """Which responses are trained on: the last of a dialogue, as in the paper, or every one. Each
    is a row of its own, whose earlier turns have no loss."""
    num_responses: int = bounded(1, low=1, high=1024)
    """Responses sampled per turn; the reward models choose the best, so more than one needs
    them."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How responses are drawn."""
    engine: str = LOCAL
    """What draws them: local, the run itself, or the name of a server in the operator's file."""
    score_function: str = "rewardmodels.scoring:load_score_fn"
    """`module:function` that loads the score function from the reward-model directories."""
    safety_threshold: float = bounded(0.15, low=0.0, high=1.0)
    """The gate: below this safety score the safety model decides."""
    rows_per_batch: int = bounded(256, low=1)
    """Responses sampled or scored at once."""
    finetune: SFTConfig = field(default_factory=SFTConfig)
    """How the start model is fine-tuned on the rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_turns < self.min_turns:
            message = f"{self.max_turns} is below min_turns, which is {self.min_turns}"
            raise RecordError("max_turns", message)
        check_engine_name(self.engine)


@dataclass(frozen=True, kw_only=True)
class PersistenceConfig(RunConfig):
    """Measure whether turn n still obeys the first turn's instruction (appendix A.3.5).

    Inputs: `policy`, optional `baseline` (the same without Ghost Attention), `prompts` (what users
    say, JSON Lines), optional `constraints` (JSON Lines; else lists of our own). Outputs: none but
    the result.
    """

    num_dialogues: int = bounded(200, low=1, high=100_000)
    """Dialogues held with each policy, in the same words of the user."""
    num_turns: int = bounded(20, low=1, high=100)
    """User turns of each dialogue; the paper looks at up to 20."""
    max_constraints: int = bounded(1, low=1, high=16)
    """Most constraints combined in one instruction; all of them must be kept to."""
    short_share: float = bounded(0.0, low=0.0, high=1.0)
    """Share of the dialogues in which the instruction is terse."""
    placement: Placement = Placement.USER
    """Where the instruction stands, as in training."""
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
    obedience_function: str = "evaluation.obedience:mentions_value"
    """`module:function` that says whether a response keeps to a constraint. mentions_value asks the
    constraint's question aside, at every turn, and looks for its value in the answer;
    `evaluation.sandbox:obeys_rule` reads the response itself."""
    rows_per_batch: int = bounded(256, low=1)
    """Responses sampled at once."""
    num_examples: int = bounded(10, low=0)
    """Dialogues kept word for word in the result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_engine_name(self.engine)
        check_engine_name(self.baseline_engine, "baseline_engine")


class PrepromptChoice(StrEnum):
    """Which preprompt an adversarial prompt gets.

    `generic` takes a generic one, `category` the one for the prompt's risk category and a generic
    one where there is none.
    """

    GENERIC = "generic"
    CATEGORY = "category"


@dataclass(frozen=True, kw_only=True)
class ContextDistillationConfig(RunConfig):
    """Safety context distillation (arXiv:2307.09288, section 4.2.4).

    Adversarial prompts are answered with and without a safety preprompt. Where the safety reward
    model prefers the answer that had one, the policy is fine-tuned on it, without the preprompt.

    Inputs: `policy` (sampled from), `start` (fine-tuned), `prompts` (JSON Lines; those that are not
    tagged as safety prompts are left out), `safety` (reward model), optional `helpfulness` (scored
    for the report), optional `preprompts` (JSON Lines; else ours), optional `demonstrations`
    (trained on beside). Outputs: `policy`, `demonstrations` (the answers kept).
    """

    preprompts: PrepromptChoice = PrepromptChoice.CATEGORY
    """generic ones only, or the one for the prompt's risk category where there is one."""
    min_gain: float = bounded(0.0, low=0.0, high=100.0)
    """An answer is kept where its raw safety score exceeds the other's by more than this."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How both answers are drawn."""
    engine: str = LOCAL
    """What draws them: local, the run itself, or the name of a server in the operator's file."""
    score_function: str = "rewardmodels.scoring:load_score_fn"
    """`module:function` that loads the score function from the reward-model directories."""
    rows_per_batch: int = bounded(256, low=2)
    """Responses sampled or scored at once."""
    num_examples: int = bounded(20, low=0)
    """Prompts whose two answers are kept word for word in the result."""
    finetune: SFTConfig = field(default_factory=SFTConfig)
    """How the start model is fine-tuned on the answers kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_engine_name(self.engine)
