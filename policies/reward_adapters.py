"""Reward models that PPO's networks hold: as adapters of the base, or cut over the processes.

Shapes: B rows.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    BaseMismatchError,
    read_adapter,
    refuse_other_base,
)
from language.rows import TokenRow
from language.scalars import HandOut, score_rows
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.networks import Networks
from policies.scoring import refuse_other_tokenizer
from records.policy_configs import PPOConfig
from records.ppo_choices import RewardNetwork
from records.preferences import Axis
from records.run_configs import GENERAL

logger = logging.getLogger(__name__)

OWN_SCORE_FUNCTION = PPOConfig().score_function
"""The one that scores by the reward models that are a run's inputs."""


class RewardAdapters(NamedTuple):
    """What of a run's reward models is an adapter of its base."""

    shared: Mapping[str, AdapterWeights]
    """Those that score or watch as adapters, by role; either both axes are here or nothing is."""
    helpfulness: AdapterWeights | None
    """What a value adapter starts from."""
    reason: str
    """Why those that are not on the base are not; empty where all are."""

    def describe(self, *, is_trunk_shared: bool) -> str:
        """Return what the run holds, in a sentence for its log and its result."""
        own = ["policy with a value head on it"] if is_trunk_shared else ["policy", "value model"]
        text = f"one base with adapters for {', '.join([*own, *self.shared])}"
        if not self.shared:
            text += "; the reward models have layers of their own"
        return f"{text} ({self.reason})" if self.reason else text


def find_reward_adapters(
    paths: Mapping[str, Path], base_digest: str, config: PPOConfig
) -> RewardAdapters:
    """Return which of the reward models at `paths` may stand on the weights of this digest.

    Raises:
        BaseMismatchError: The config insists on adapters, and one was trained on other weights.
        ValueError: It insists, and a reward model kept no adapter, or is not what scores.
    """
    kept, refusals = _adapters_on(base_digest, {role: paths[role] for role in _roles(paths)})
    helpfulness = kept.get(Axis.HELPFULNESS.value)
    scoring = [refusals[axis.value] for axis in Axis if axis.value in refusals]
    if config.score_function != OWN_SCORE_FUNCTION:
        reason = f"score_function: {config.score_function} is what scores, and not the inputs"
        scoring.insert(0, ValueError(reason))
    if config.reward_network is RewardNetwork.ADAPTERS and scoring:
        raise scoring[0]
    if config.reward_network is RewardNetwork.WHOLE:
        return RewardAdapters({}, helpfulness, "reward_network is whole")
    if scoring:
        return RewardAdapters({}, helpfulness, "; ".join(map(str, scoring)))
    return RewardAdapters(kept, helpfulness, "; ".join(map(str, refusals.values())))


class NetworkScorer:
    """Scores rows under the networks' reward models; satisfies `language.scores.ScoreFn`."""

    def __init__(self, networks: Networks, *, tokenizer_digest: str, rows_per_batch: int) -> None:
        self.tokenizer_digest = tokenizer_digest
        self._networks = networks
        self._rows_per_batch = rows_per_batch

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return scores_B of each axis, in the order of `rows`: raw, float32, on the CPU."""
        return {
            axis: score_rows(
                self._networks.as_reward_model(axis.value),
                rows,
                rows_per_batch=self._rows_per_batch,
            )
            for axis in Axis
        }

    def model_beside(self, role: str, folder: Path) -> HandOut | None:
        """Return what hands out the run's own model `role` where it is on the base too."""
        del folder  # its adapter was put on the base when the run began
        networks = self._networks
        is_held = role in networks.reward_models
        return partial(networks.as_reward_model, role) if is_held else None


def network_scorer(
    networks: Networks,
    paths: Mapping[str, Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows_per_batch: int,
) -> NetworkScorer:
    """Return the score function of the reward models that `networks` holds, those at `paths`.

    Raises:
        ValueError: One of them reads other token ids than the policy writes.
    """
    for axis in Axis:
        digest = tokenizer_digest(load_tokenizer(paths[axis.value]))
        refuse_other_tokenizer(axis.value, digest, tokenizer)
    return NetworkScorer(
        networks, tokenizer_digest=tokenizer_digest(tokenizer), rows_per_batch=rows_per_batch
    )


def _roles(paths: Mapping[str, Path]) -> list[str]:
    return [role for role in (*(axis.value for axis in Axis), GENERAL) if role in paths]


def _adapters_on(
    base_digest: str, models: Mapping[str, Path]
) -> tuple[dict[str, AdapterWeights], dict[str, ValueError]]:
    """Return, by role, the adapters trained on these weights, and why the others are none."""
    kept: dict[str, AdapterWeights] = {}
    refusals: dict[str, ValueError] = {}
    for role, folder in models.items():
        found = read_adapter(folder / ADAPTER_FOLDER)
        if found is None:
            text = f"{role}: it kept no adapter; train it with lora_rank above 0 from this base"
            refusals[role] = ValueError(text)
            continue
        try:
            refuse_other_base(role, found, base_digest)
            kept[role] = found.weights
        except BaseMismatchError as error:
            refusals[role] = error
    return kept, refusals
