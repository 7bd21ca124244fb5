"""The command `score`: responses from a file in, one line of scores for each out."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from language.chat import TagInjectionError, encode_response, fit_prompt
from language.models import resolve_device, resolve_dtype
from language.rows import TokenRow
from language.tokenizers import load_tokenizer
from records.errors import RecordError
from records.files import file_written_atomically
from records.preferences import Axis
from rewardmodels.scoresources import Item, read_items
from rewardmodels.scoring import RewardScorer, load_score_fn

_ROWS_PER_CHUNK = 4096


def main(argv: Sequence[str]) -> int:
    """Execute `score SOURCE OUTPUT --helpfulness FOLDER --safety FOLDER`; return the exit status.

    SOURCE is JSON Lines, Parquet or a snapshot's folder (`rewardmodels.scoresources`). OUTPUT gets
    a JSON object a line: what the row held, and `scores` (raw, by axis), null with the reason under
    `unscored` where a row is longer than the model allows (`too_long`) or imitates the tags of the
    chat format (`holds_tags`). Memory does not grow with the rows, and OUTPUT is whole or absent.
    """
    parser = argparse.ArgumentParser(prog="python -m rewardmodels score")
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    for axis in Axis:
        parser.add_argument(f"--{axis.value}", type=Path, help=f"reward model of {axis.value}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows-per-batch", type=int, default=256)
    arguments = parser.parse_args(argv)
    folders = {axis: getattr(arguments, axis.value) for axis in Axis}
    paths = {axis: folder for axis, folder in folders.items() if folder is not None}
    if not paths:
        parser.error("name at least one reward model: --helpfulness FOLDER or --safety FOLDER")
    score_fn = load_score_fn(
        paths,
        device=resolve_device(arguments.device),
        dtype=resolve_dtype(arguments.dtype),
        rows_per_batch=arguments.rows_per_batch,
    )
    tokenizer = load_tokenizer(next(iter(paths.values())))
    configs = [AutoConfig.from_pretrained(str(path)) for path in paths.values()]
    max_tokens = min(config.max_position_embeddings for config in configs)
    try:
        counts = _score_file(arguments.source, arguments.output, score_fn, tokenizer, max_tokens)
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason != "rows")
    sys.stdout.write(f"{counts['rows']} rows, not scored: {reasons or 'none'}\n")
    return 0


def _score_file(
    source: Path,
    output: Path,
    score_fn: RewardScorer,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Counter[str]:
    """Write the scores of `source` to `output`; return `rows` and the number unscored by reason."""
    counts: Counter[str] = Counter(rows=0)
    items = read_items(source)
    with file_written_atomically(output) as file:
        while chunk := list(islice(items, _ROWS_PER_CHUNK)):
            rows = [_encode(tokenizer, item, max_tokens) for item in chunk]
            for item, row, scores in zip(chunk, rows, _score(score_fn, rows), strict=True):
                line: dict[str, Any] = {**item.fields, "response": item.response, "scores": scores}
                if isinstance(row, str):
                    line["unscored"] = row
                    counts[row] += 1
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            counts["rows"] += len(chunk)
    return counts


def _encode(tokenizer: PreTrainedTokenizerBase, item: Item, max_tokens: int) -> TokenRow | str:
    """Return the row of an item as training reads it, or the reason why it has none."""
    try:
        response_ids = encode_response(tokenizer, item.response)
        prompt_ids = fit_prompt(tokenizer, item.prompt, max_tokens - len(response_ids))
    except TagInjectionError:
        return "holds_tags"
    return "too_long" if prompt_ids is None else TokenRow(tuple(prompt_ids), tuple(response_ids))


def _score(score_fn: RewardScorer, rows: Sequence[TokenRow | str]) -> list[dict[str, float] | None]:
    kept = [row for row in rows if not isinstance(row, str)]
    columns = {axis.value: scores_B.tolist() for axis, scores_B in score_fn(kept).items()}
    scored = iter([{axis: column[i] for axis, column in columns.items()} for i in range(len(kept))])
    return [None if isinstance(row, str) else next(scored) for row in rows]
