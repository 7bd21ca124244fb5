"""What the stages work on: a random Llama on the device, and token rows as long as real ones.

Lengths follow hh-rlhf (prompts of 135 tokens in the mean, responses of 51; rows: median 148, p90
375, p99 725) as two log-normal distributions. Ids are drawn at random: neither tokenizer nor text
is needed.
"""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from language.floors import pass_flops
from language.norms import use_few_pass_norms_
from language.rows import TokenRow
from language.scalars import share_trunk
from language.sharding import Model, ShardedModel
from records.preferences import Rating
from rewardmodels.data import Pair

BOS_ID, EOS_ID = 1, 2
_FIRST_ID = 3
_PROMPT = (135.0, 0.8)
"""Mean and the logarithm's deviation."""
_RESPONSE = (51.0, 0.95)
MAX_PROMPT, MAX_RESPONSE = 896, 512


class Shape(NamedTuple):
    """A Llama's size."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int

    @property
    def matrix_parameters(self) -> int:
        """Parameters of the layers that take part in a product for each token."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.intermediate)

    def layer_flops(self, tokens: float, read: float) -> float:
        """Return the FLOP of the layers in a forward pass whose output is read at `read` tokens."""
        sizes = (self.hidden, self.intermediate, self.layers)
        return pass_flops(*sizes, tokens=tokens, read=read)

    def as_config(self) -> dict[str, int]:
        """Return the sizes as `LlamaConfig` names them."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "vocab_size": self.vocabulary,
        }

    @property
    def head_parameters(self) -> int:
        """Parameters of the output layer."""
        return self.hidden * self.vocabulary

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values of one token in bfloat16."""
        return 2 * 2 * self.layers * self.hidden


class Size(NamedTuple):
    """How large everything is."""

    name: str
    shape: Shape
    small: tuple[tuple[str, Shape], ...]
    """Smaller models: the first is for exactness, all of them for the padded comparison."""
    calibration: int
    pairs: int
    """In an optimizer step of the reward model."""
    steps: int
    attention_tokens: int
    responses: tuple[int, ...]
    """K of best of K."""
    prompts: int
    ppo_prompts: int
    new_tokens: int
    mean_new_tokens: int


NANO = Shape(128, 4, 4, 344, 4096)
SMALL = Shape(512, 8, 8, 1376, 8192)
SEVEN_B = Shape(4096, 32, 32, 11008, 32000)
SIZES = {
    "7b": Size(
        "7b",
        SEVEN_B,
        (("small", SMALL), ("nano", NANO)),
        8192,
        64,
        4,
        8192,
        (1, 4, 16),
        16,
        32,
        128,
        51,
    ),
    "nano": Size(
        "nano",
        Shape(64, 2, 2, 128, 256),
        (("tiny", Shape(64, 2, 2, 128, 256)),),
        128,
        4,
        2,
        256,
        (1, 2),
        2,
        3,
        6,
        4,
    ),
}


def chosen_size() -> Size:
    """Return the size that `CONCORD_BENCH_SIZE` names; 7B where it names none.

    Raises:
        ValueError: There is no such size.
    """
    name = os.environ.get("CONCORD_BENCH_SIZE") or "7b"
    if name not in SIZES:
        raise ValueError(f"CONCORD_BENCH_SIZE: {name!r} is not one of {', '.join(SIZES)}")
    return SIZES[name]


def random_policy(
    shape: Shape, device: torch.device, dtype: torch.dtype, *, seed: int = 0
) -> LlamaForCausalLM:
    """Return a Llama of `shape` with random weights, made on the device in `dtype`."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=4096,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=None,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model: LlamaForCausalLM = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    use_few_pass_norms_(model)
    model.train(mode=False)
    return model


def random_scalar_model(
    shape: Shape, device: torch.device, dtype: torch.dtype, *, seed: int = 0
) -> LlamaForSequenceClassification:
    """Return a scalar model of `shape` with random weights, its head's too, on the device."""
    model = share_trunk(random_policy(shape, device, dtype, seed=seed))
    nn.init.normal_(model.score.weight, std=(shape.hidden + 1) ** -0.5)
    return model


def draw_prompts(count: int, shape: Shape, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Return prompts as long as hh-rlhf's."""
    random = np.random.default_rng(seed)
    lengths = _lengths(random, count, *_PROMPT, MAX_PROMPT)
    return [_ids(random, length, shape) for length in lengths]


def draw_pairs(
    count: int, shape: Shape, *, seed: int = 0, max_response: int = MAX_RESPONSE
) -> list[Pair]:
    """Return pairs as long as hh-rlhf's, with ratings."""
    random = np.random.default_rng(seed + 1)
    prompts = draw_prompts(count, shape, seed=seed)
    lengths = _lengths(random, 2 * count, *_RESPONSE, max_response)
    ratings = list(Rating)
    pairs = []
    for number, prompt in enumerate(prompts):
        chosen, rejected = (
            TokenRow(prompt, (*_ids(random, length, shape), EOS_ID))
            for length in lengths[2 * number : 2 * number + 2]
        )
        pairs.append(Pair(chosen, rejected, ratings[number % len(ratings)], None))
    return pairs


def whole(model: Model | ShardedModel[Model]) -> Model:
    """Return a model that one process holds, as it does here."""
    assert not isinstance(model, ShardedModel), "one process cuts nothing"
    return model


def num_real_tokens(pairs: Sequence[Pair]) -> int:
    """Return the tokens of all rows, each prompt counted for both of its responses."""
    return sum(pair.chosen.num_tokens + pair.rejected.num_tokens for pair in pairs)


def num_distinct_tokens(pairs: Sequence[Pair]) -> int:
    """Return the tokens that must be computed, each prompt once."""
    return sum(pair.num_tokens for pair in pairs)


def _lengths(
    random: np.random.Generator, count: int, mean: float, deviation: float, longest: int
) -> list[int]:
    middle = math.log(mean) - deviation**2 / 2
    drawn = random.lognormal(middle, deviation, count).round().astype(int)
    return [int(length) for length in drawn.clip(4, longest)]


def _ids(random: np.random.Generator, length: int, shape: Shape) -> tuple[int, ...]:
    return tuple(random.integers(_FIRST_ID, shape.vocabulary, length).tolist())
