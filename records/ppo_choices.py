"""The choices of PPO that the paper leaves open, and what it raises an alarm about."""

from dataclasses import dataclass
from enum import StrEnum

from records.fields import Config, bounded


class KLEstimator(StrEnum):
    """Estimate of KL(policy || reference) that is subtracted from the score."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class KLScope(StrEnum):
    """What one estimate of the divergence is about: a token, or a whole response."""

    TOKEN = "token"  # noqa: S105 - a unit of text
    SEQUENCE = "sequence"


class WhitenScope(StrEnum):
    """Whose mean and deviation whiten a score."""

    BATCH = "batch"
    RUNNING = "running"
    START = "start"


class TruncationRule(StrEnum):
    """What a response that reached the length limit is paid at its last token."""

    PENALTY = "penalty"
    REPLACE = "replace"
    BOOTSTRAP = "bootstrap"


class ValueNetwork(StrEnum):
    """Whose layers the value model has."""

    SEPARATE = "separate"
    SHARED = "shared"


class RewardNetwork(StrEnum):
    """What the reward models are where policy and value model are adapters."""

    AUTO = "auto"
    ADAPTERS = "adapters"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class AlarmConfig(Config):
    """When PPO says that something looks wrong: a metric and an event, which stop nothing.

    0 turns an alarm off; `standard_errors` belongs to the last two.
    """

    kl: float = bounded(30.0, low=0.0)
    """Nats of KL to the reference, mean over responses, above which the policy has run away."""
    entropy_share: float = bounded(0.2, low=0.0, high=1.0)
    """Entropy below this share of the first iteration's is a collapse."""
    length_ratio: float = bounded(2.0, low=0.0)
    """Mean length above this many times the first iteration's, or below the inverse, is a drift."""
    ratio_deviation: float = bounded(0.02, low=0.0)
    """Largest distance from 1 that the probability ratio may have before the first step: there the
    policy has not changed yet, so more than rounding is a fault."""
    monitor_drop: float = bounded(0.05, low=0.0)
    """Fall of the general reward model's held-out mean from its best, in deviations of its scores
    before training, while the reward that is optimised has risen since: over-optimisation."""
    surprise_rise: float = bounded(0.05, low=0.0)
    """Rise of how much held-out responses surprise the reference, in nats a token, as a share of
    what it was before training, while the reward has risen: the policy leaves the language that the
    reward models learned from."""
    standard_errors: float = bounded(3.0, low=0.0)
    """Such a fall or rise counts from this many standard errors of the difference on, prompt by
    prompt: at 3 chance alone raises an alarm at about one look in some hundreds."""
