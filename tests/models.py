"""Tiny tokenizer and models shared by every torch test."""

from copy import deepcopy
from functools import cache
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.models import create_policy, save_model
from language.tokenizers import train_tokenizer
from records.run_configs import ModelShape

TEXTS = (
    "hello, how are you today? i am fine, thank you.",
    "what is the sum of 12 and 30? the sum is 42.",
    "tell me how to make tea. boil the water, add the leaves, wait three minutes.",
    "i will not help with that, but here is something safe to do instead.",
    "the red house stands by the river. the blue house stands on the hill.",
    "[INST] tell me more [/INST] of course, here is more.",
    "[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nwhat is the best house? [/INST] the red house.",
)


@cache
def tiny_tokenizer(vocabulary_size: int = 384) -> PreTrainedTokenizerBase:
    """Return a tokenizer trained on a few sentences; shared, so never change it."""
    return train_tokenizer(TEXTS * 4, vocabulary_size=vocabulary_size)


def tiny_policy(
    seed: int = 0,
    num_layers: int = 2,
    hidden_size: int = 32,
    num_heads: int = 4,
    max_positions: int = 256,
) -> LlamaForCausalLM:
    """Return a random Llama on the tiny tokenizer; a fresh copy, so change it as you like."""
    return deepcopy(_tiny_policy(seed, num_layers, hidden_size, num_heads, max_positions))


def write_tiny_policy(folder: Path, seed: int = 0, num_layers: int = 2) -> Path:
    """Write `tiny_policy` and its tokenizer into `folder`, as a run's input; return `folder`."""
    save_model(tiny_policy(seed, num_layers), tiny_tokenizer(), folder)
    return folder


@cache
def _tiny_policy(
    seed: int, num_layers: int, hidden_size: int, num_heads: int, max_positions: int
) -> LlamaForCausalLM:
    shape = ModelShape(
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        max_positions=max_positions,
    )
    return create_policy(shape, tiny_tokenizer(), seed=seed)
