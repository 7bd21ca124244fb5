"""The configuration of training a reward model, and of a report on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from records.fields import Config, bounded
from records.preferences import Axis, Rating
from records.run_configs import GENERAL, OptimizerConfig, RunConfig


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
