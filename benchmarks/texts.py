"""What the torch benchmarks work on: pairs, a tokenizer and a model of Llama 2's shape."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.models import create_policy, save_model
from language.tokenizers import train_tokenizer
from records.hh_rlhf import import_hh_rlhf
from records.preferences import Axis, Preference
from records.run_configs import ModelShape
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.corpus import sample_demonstrations

SHAPES = {
    "nano": (ModelShape(intermediate_size=344, max_positions=2048), 4096),
    "small": (
        ModelShape(
            hidden_size=512, intermediate_size=1376, num_layers=8, num_heads=8, max_positions=2048
        ),
        8192,
    ),
}
"""Shape and vocabulary by name."""


def chosen_sizes() -> list[str]:
    """Return the sizes to measure: all, or the one that `CONCORD_BENCH_SIZE` names.

    Raises:
        ValueError: There is no such size.
    """
    only = os.environ.get("CONCORD_BENCH_SIZE")
    if only and only not in SHAPES:
        raise ValueError(f"CONCORD_BENCH_SIZE: {only!r} is not one of {', '.join(SHAPES)}")
    return [only] if only else list(SHAPES)


class Texts(NamedTuple):
    """Pairs and where they come from."""

    preferences: list[Preference]
    source: str


def load_pairs(count: int) -> Texts:
    """Return `count` pairs of hh-rlhf where `CONCORD_DATA` points to it, else of the sandbox."""
    folder = os.environ.get("CONCORD_DATA")
    if folder:
        data = import_hh_rlhf(Path(folder) / "hh-rlhf")
        train = [p for p in data.preferences if data.splits[p.dialogue_id] == "train"]
        return Texts(train[:: max(1, len(train) // count)][:count], "hh-rlhf")
    return Texts(_sandbox_pairs(count), "sandbox")


def make_policy(folder: Path, shape_name: str, texts: Texts) -> PreTrainedTokenizerBase:
    """Write a randomly initialised policy with its tokenizer to `folder`."""
    shape, vocabulary_size = SHAPES[shape_name]
    tokenizer = train_tokenizer(
        (text for p in texts.preferences for text in (p.prompt.turns[-1].text, p.chosen)),
        vocabulary_size=vocabulary_size,
    )
    save_model(create_policy(shape, tokenizer, seed=0), tokenizer, folder)
    return tokenizer


def llama_shape(folder: Path) -> dict[str, object]:
    """Return the model's size as `LlamaConfig` names it, for the peer."""
    config = json.loads((folder / "config.json").read_text())
    names = (
        "hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "max_position_embeddings rms_norm_eps"
    )
    return {name: config[name] for name in names.split()}


def _sandbox_pairs(count: int) -> list[Preference]:
    left = list(sample_demonstrations(1, count))
    right = list(sample_demonstrations(2, count))
    annotator = SimulatedAnnotator(PERSONAS["careful"], 0)
    pairs = []
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        texts = (one.response, other.response)
        verdict = annotator.judge(one.prompt, *texts, Axis.HELPFULNESS)
        chosen, rejected = texts if verdict.prefers_left else texts[::-1]
        pairs.append(
            Preference(
                preference_id=str(index),
                dialogue_id=str(index),
                prompt=one.prompt,
                chosen=chosen,
                rejected=rejected,
                axis=Axis.HELPFULNESS,
                rating=verdict.rating,
            )
        )
    return pairs
