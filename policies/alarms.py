"""Alarms of PPO: what looks wrong in an iteration, in words that say what to do about it."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from language.distributed import world
from policies.heldout import HeldOutLook
from policies.networks import View
from policies.rollouts import Rollout
from records.ppo_choices import AlarmConfig

logger = logging.getLogger(__name__)

NAMES = ("kl", "entropy", "length", "ratio", "monitor")


class Signs(NamedTuple):
    """What an iteration is judged by."""

    kl: float
    entropy: float
    mean_tokens: float
    ratio_max_deviation: float


class Peak(NamedTuple):
    """The look at which the general reward model liked the held-out responses best."""

    general: float
    reward: float


def signs_of(rollout: Rollout, view: View, kl: float, ratio_max_deviation: float) -> Signs:
    """Return what an iteration is judged by; means are over response tokens, or over responses."""
    return Signs(
        kl=kl,
        entropy=float(view.entropies_M.double().mean()),
        mean_tokens=len(rollout.place_M) / len(rollout.rows),
        ratio_max_deviation=ratio_max_deviation,
    )


def alarms_of(signs: Signs, first: Signs, config: AlarmConfig) -> dict[str, str]:
    """Return the alarms of an iteration by name, each with what to do; `first` is iteration 1."""
    found: dict[str, str] = {}
    if config.kl and signs.kl > config.kl:
        found["kl"] = (
            f"KL to the reference is {signs.kl:.3g} nats a response, above {config.kl:g}: the "
            "policy runs away. Raise kl_coef, set kl_target, or lower optimizer.learning_rate"
        )
    if config.entropy_share and signs.entropy < config.entropy_share * first.entropy:
        found["entropy"] = (
            f"entropy fell from {first.entropy:.3g} to {signs.entropy:.3g} nats a token: the "
            "policy hardly varies its words any more. Raise kl_coef or lower "
            "optimizer.learning_rate, and read some responses"
        )
    if config.length_ratio and not (
        first.mean_tokens / config.length_ratio
        <= signs.mean_tokens
        <= first.mean_tokens * config.length_ratio
    ):
        found["length"] = (
            f"responses have {signs.mean_tokens:.3g} tokens, at first {first.mean_tokens:.3g}: "
            "look at the length bias of the reward models, and at finished_share; a larger "
            "truncation_penalty stops rambling"
        )
    if config.ratio_deviation and signs.ratio_max_deviation > config.ratio_deviation:
        found["ratio"] = (
            f"before the first step the probability ratio is {signs.ratio_max_deviation:.2g} off "
            "1: two passes of one policy disagree. In bfloat16 this may be rounding, so raise "
            "alarms.ratio_deviation or take float32; in float32 it is a fault to report"
        )
    return found


def monitor_alarm(
    look: HeldOutLook, start: HeldOutLook, peak: Peak | None, config: AlarmConfig
) -> dict[str, str]:
    """Return the alarm of over-optimisation where the monitor fell while the reward rose.

    `start` is the look before training, whose deviation is the unit of the fall from `peak`.
    """
    if peak is None or look.general is None or start.general is None or not config.monitor_drop:
        return {}
    allowed = config.monitor_drop * start.general.variance**0.5
    if peak.general - look.general.mean <= allowed or look.scores.mean <= peak.reward:
        return {}
    return {
        "monitor": (
            f"the general reward model's held-out mean fell from {peak.general:.3g} to "
            f"{look.general.mean:.3g} while the reward rose from {peak.reward:.3g} to "
            f"{look.scores.mean:.3g}: the reward models are being gamed. Take an earlier policy, "
            "raise kl_coef, or collect comparisons of this policy's responses"
        )
    }


def peak_after(peak: Peak | None, look: HeldOutLook) -> Peak | None:
    """Return the better of `peak` and `look` by the general reward model; the first of equals."""
    if look.general is None or (peak is not None and look.general.mean <= peak.general):
        return peak
    return Peak(look.general.mean, look.scores.mean)


def alarm_row(alarms: Mapping[str, str], iteration: int) -> dict[str, float | str]:
    """Return the metrics of an iteration's alarms, 0 or 1 each, and put their words in the log.

    The words of all are the metric `event`, which the run's page shows. Of several processes, which
    all see the same, the main one logs them.
    """
    for words in alarms.values() if world()[0] == 0 else ():
        logger.warning("iteration %d: %s.", iteration, words)
    row: dict[str, float | str] = {f"alarm_{name}": float(name in alarms) for name in NAMES}
    if alarms:
        row["event"] = " ".join(f"{words[0].upper()}{words[1:]}." for words in alarms.values())
    return row
