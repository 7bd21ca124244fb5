"""The command `score`: responses from a file in, one line of scores for each out."""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedTokenizerBase

from language.chat import encode_response, fit_prompt
from language.models import resolve_device, resolve_dtype
from language.rows import TokenRow
from language.tokenizers import load_tokenizer
from records.dialogues import Dialogue
from records.preferences import Axis
from records.prompts import read_demonstrations
from records.snapshots import read_snapshot
from rewardmodels.scoring import RewardScorer, load_score_fn

_ROWS_PER_CHUNK = 4096


class _Item(NamedTuple):
    """One response to score and what identifies it in the output."""

    prompt: Dialogue
    response: str
    fields: dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Execute `score SOURCE OUTPUT --helpfulness FOLDER --safety FOLDER`; return the exit status.

    SOURCE is a JSON Lines file of demonstrations, or a snapshot's folder of Parquet. OUTPUT gets a
    JSON object a line with `scores` (raw, by axis), null where a row is longer than the model
    allows; the number of those is printed.
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
    num_rows = num_unscored = 0
    items = _read_items(arguments.source)
    with arguments.output.open("w", encoding="utf-8") as file:
        while chunk := list(islice(items, _ROWS_PER_CHUNK)):
            rows = [_encode(tokenizer, item, max_tokens) for item in chunk]
            for item, scores in zip(chunk, _score(score_fn, rows), strict=True):
                line = {**item.fields, "response": item.response, "scores": scores}
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
                num_unscored += scores is None
            num_rows += len(chunk)
    print(f"{num_rows} rows, {num_unscored} of them too long to score")  # noqa: T201 - a command
    return 0


def _read_items(source: Path) -> Iterator[_Item]:
    if not source.is_dir():
        for line in read_demonstrations(source):
            fields = {"prompt": line.prompt.to_json(), "source": line.source}
            yield _Item(line.prompt, line.response, fields)
        return
    for preference in read_snapshot(source):
        sides = (("chosen", preference.chosen), ("rejected", preference.rejected))
        for side, response in sides:
            fields = {"preference_id": preference.preference_id, "side": side}
            yield _Item(preference.prompt, response, fields)


def _encode(tokenizer: PreTrainedTokenizerBase, item: _Item, max_tokens: int) -> TokenRow | None:
    response_ids = encode_response(tokenizer, item.response)
    prompt_ids = fit_prompt(tokenizer, item.prompt, max_tokens - len(response_ids))
    return None if prompt_ids is None else TokenRow(tuple(prompt_ids), tuple(response_ids))


def _score(
    score_fn: RewardScorer, rows: Sequence[TokenRow | None]
) -> list[dict[str, float] | None]:
    kept = [row for row in rows if row is not None]
    columns = {axis.value: scores_B.tolist() for axis, scores_B in score_fn(kept).items()}
    scored = iter([{axis: column[i] for axis, column in columns.items()} for i in range(len(kept))])
    return [None if row is None else next(scored) for row in rows]
