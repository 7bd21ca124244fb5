"""The pool: the best samples of all iterations so far, from which rejection sampling may choose.

Choosing from the newest samples alone made the paper's V3 forget (arXiv:2307.09288, section 3.2.3).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from records.dialogues import Dialogue
from records.digests import digest_bytes
from records.errors import RecordError
from records.files import write_text_atomically
from records.prompts import Prompt


class PoolSample(NamedTuple):
    """One sampled response that ended by itself, with where it came from."""

    prompt: Prompt
    response: str
    ids: tuple[int, ...]
    """The tokens as sampled, end token included."""
    tokenizer: str
    """Digest of the tokenizer that `ids` belong to."""
    source: str
    """Digest of the policy that was sampled."""
    iteration: int
    """Of rejection sampling, counted from 1 along the chain of pools."""
    score: float
    """Gated raw score by the reward models of the newest iteration."""


def prompt_key(prompt: Prompt) -> str:
    """Return what makes two prompts the same: their text and tag, whatever their ids."""
    data = [prompt.dialogue.to_json(), prompt.is_safety]
    return digest_bytes(json.dumps(data, sort_keys=True).encode())


def by_prompt(samples: Iterable[PoolSample]) -> dict[str, list[PoolSample]]:
    """Return samples grouped by the key of their prompt, all in order of appearance."""
    groups: dict[str, list[PoolSample]] = {}
    for sample in samples:
        groups.setdefault(prompt_key(sample.prompt), []).append(sample)
    return groups


def top_samples(samples: Sequence[PoolSample], size: int) -> list[PoolSample]:
    """Return the `size` best of one prompt's samples, best first, no response twice.

    Of equal scores the first given comes first.
    """
    distinct: dict[str, PoolSample] = {}
    for sample in sorted(samples, key=lambda sample: -sample.score):
        distinct.setdefault(sample.response, sample)
    return list(distinct.values())[:size]


def next_pool(samples: Iterable[PoolSample], size: int) -> list[PoolSample]:
    """Return the pool for later iterations: the `size` best per prompt of all iterations."""
    return [kept for group in by_prompt(samples).values() for kept in top_samples(group, size)]


def write_pool(path: Path, samples: Iterable[PoolSample]) -> None:
    """Write one JSON object a line, whole or not at all."""
    lines = (json.dumps(_to_json(sample), ensure_ascii=False) + "\n" for sample in samples)
    write_text_atomically(path, "".join(lines))


def read_pool(path: Path) -> Iterator[PoolSample]:
    """Yield the samples that `write_pool` wrote.

    Raises:
        RecordError: A line is not a sample.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _from_json(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                message = f"line {number} is not a sample: {error!r}"
                raise RecordError(path.name, message) from error


def _to_json(sample: PoolSample) -> dict[str, Any]:
    values = sample._asdict()
    prompt: Prompt = values.pop("prompt")
    return {
        "prompt_id": prompt.prompt_id,
        "prompt": prompt.dialogue.to_json(),
        "is_safety": prompt.is_safety,
        **values,
    }


def _from_json(data: Mapping[str, Any]) -> PoolSample:
    prompt = Prompt(
        prompt_id=str(data["prompt_id"]),
        dialogue=Dialogue.from_json(data["prompt"]),
        is_safety=bool(data["is_safety"]),
    )
    return PoolSample(
        prompt=prompt,
        response=str(data["response"]),
        ids=tuple(int(token) for token in data["ids"]),
        tokenizer=str(data["tokenizer"]),
        source=str(data["source"]),
        iteration=int(data["iteration"]),
        score=float(data["score"]),
    )
