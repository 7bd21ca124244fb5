"""Reward models trained for an experiment: a run in a folder, then scores of its held-out pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from language.runs import RunContext, seed_everything
from language.scalars import load_scalar_model
from language.tokenizers import load_tokenizer
from records.preferences import Preference
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from rewardmodels.data import encode_pairs
from rewardmodels.reports import score_pairs
from rewardmodels.training import train


class HeldOutScores(NamedTuple):
    """Raw scores of held-out pairs, in their order."""

    chosen: list[float]
    rejected: list[float]


def train_in(folder: Path, config: RewardModelConfig, *, policy: Path, snapshot: Path) -> Path:
    """Train a reward model in a new run directory `folder`, with one thread; return its output."""
    torch.set_num_threads(1)
    inputs = {"policy": RunInput(policy, ""), "snapshot": RunInput(snapshot, "")}
    spec = RunSpec(kind=RunKind.REWARD_MODEL, config=config, inputs=inputs, code_commit="benchmark")
    directory = RunDirectory.create(folder, spec)
    seed_everything(config.seed)
    train(directory, spec, RunContext(directory, config))
    return directory.outputs / "reward_model"


def score_held_out(
    reward_model: Path, preferences: Sequence[Preference], *, max_tokens: int
) -> HeldOutScores:
    """Return the scores of all `preferences`, each of which must fit in `max_tokens`."""
    tokenizer = load_tokenizer(reward_model)
    encoded = encode_pairs(tokenizer, preferences, max_tokens=max_tokens)
    assert len(encoded.pairs) == len(preferences), f"left out: {dict(encoded.skipped)}"
    model = load_scalar_model(reward_model, device=torch.device("cpu"))
    chosen, rejected = score_pairs(model, encoded.pairs, tokens_per_microbatch=4096)
    return HeldOutScores(chosen.tolist(), rejected.tolist())
