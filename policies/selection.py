"""What rejection sampling keeps: the best response to each prompt, of all iterations."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import decode_response, encode_response
from language.rows import TokenRow
from language.scores import ScoreFn
from language.tokenizers import tokenizer_digest
from policies.candidates import Chunk
from policies.encoding import EncodedPrompt, encode_prompts
from policies.pool import PoolSample, by_prompt, prompt_key, top_samples
from policies.scoring import score_rows
from records.files import write_text_atomically


class Rescored(NamedTuple):
    """The pool by the standards of this iteration."""

    samples: list[PoolSample]
    skipped: Counter[str]
    """Samples left out because their prompt is: `too_long` or `holds_tags`."""


def samples_of_chunks(
    prompts: Sequence[EncodedPrompt],
    chunks: Iterable[Chunk],
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: str,
    iteration: int,
) -> list[PoolSample]:
    """Return the candidates that ended by themselves.

    The others have no end token, and a policy that imitates them does not learn to stop.
    """
    digest = tokenizer_digest(tokenizer)
    return [
        PoolSample(
            prompt=prompts[place].prompt,
            response=decode_response(tokenizer, candidate.ids),
            ids=candidate.ids,
            tokenizer=digest,
            source=source,
            iteration=iteration,
            score=candidate.score,
        )
        for chunk in chunks
        for place, candidates in enumerate(chunk.candidates, start=chunk.first)
        for candidate in candidates
        if candidate.is_finished
    ]


def rescore_pool(
    pool: Sequence[PoolSample],
    score_fn: ScoreFn,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    max_row_tokens: int,
    threshold: float,
) -> Rescored:
    """Return the pool with scores of this iteration's reward models: old scores do not compare.

    Tokens are those once sampled; only where the tokenizer has changed is the text encoded anew.
    `max_tokens` bounds a prompt, `max_row_tokens` prompt and response: earlier iterations may have
    allowed more.
    """
    digest = tokenizer_digest(tokenizer)
    skipped: Counter[str] = Counter()
    kept: list[PoolSample] = []
    rows: list[TokenRow] = []
    for group in by_prompt(pool).values():
        encoded = encode_prompts(tokenizer, [group[0].prompt], max_tokens=max_tokens)
        for reason in encoded.skipped:
            skipped[reason] += len(group)
        for sample in group if encoded.prompts else []:
            is_current = sample.tokenizer == digest
            ids = sample.ids if is_current else tuple(encode_response(tokenizer, sample.response))
            row = TokenRow(encoded.prompts[0].ids, ids)
            if row.num_tokens > max_row_tokens:
                skipped["too_long"] += 1
                continue
            kept.append(sample._replace(ids=ids, tokenizer=digest))
            rows.append(row)
    if not rows:
        return Rescored([], skipped)
    is_safety = [sample.prompt.is_safety for sample in kept]
    scores = score_rows(score_fn, rows, is_safety, threshold=threshold).gated_B.tolist()
    pairs = zip(kept, scores, strict=True)
    return Rescored([sample._replace(score=score) for sample, score in pairs], skipped)


def select_best(new: Sequence[PoolSample], pool: Sequence[PoolSample]) -> list[PoolSample]:
    """Return the best sample of each prompt, of this iteration and all earlier ones.

    Prompts that only the pool knows are among them: what earlier iterations learned is learned
    again, as the start model need not know it. Of equal scores a new sample wins.
    """
    return [top_samples(group, 1)[0] for group in by_prompt([*new, *pool]).values()]


def write_selected(
    path: Path, selected: Sequence[PoolSample], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> None:
    """Write the selected samples as demonstrations, with the ids to train on.

    The file reads as demonstrations do; `prompt_ids`, `response_ids` and `score` come on top.
    """
    lines = []
    for sample in selected:
        (prompt,) = encode_prompts(tokenizer, [sample.prompt], max_tokens=max_tokens).prompts
        values = {
            "prompt": sample.prompt.dialogue.to_json(),
            "response": sample.response,
            "source": sample.source,
            "score": sample.score,
            "prompt_ids": prompt.ids,
            "response_ids": sample.ids,
        }
        lines.append(json.dumps(values, ensure_ascii=False) + "\n")
    write_text_atomically(path, "".join(lines))


def read_selected_rows(path: Path) -> list[TokenRow]:
    """Return the token rows that `write_selected` wrote: the ids that were sampled and scored."""
    with path.open(encoding="utf-8") as file:
        values = [json.loads(line) for line in file]
    return [TokenRow(tuple(v["prompt_ids"]), tuple(v["response_ids"])) for v in values]


def num_prompts_of(prompts: Sequence[EncodedPrompt], pool: Sequence[PoolSample]) -> int:
    """Return how many different prompts there are, of this iteration and of the pool."""
    everyone = [prompt.prompt for prompt in prompts] + [sample.prompt for sample in pool]
    return len({prompt_key(prompt) for prompt in everyone})
