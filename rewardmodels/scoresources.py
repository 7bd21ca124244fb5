"""Where responses to be scored come from: JSON Lines, Parquet or a snapshot, row by row."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from records.dialogues import Dialogue
from records.errors import RecordError
from records.snapshots import read_snapshot

_ROWS_AT_ONCE = 1024


class Item(NamedTuple):
    """One response to score and what identifies it in the output."""

    prompt: Dialogue
    response: str
    fields: dict[str, Any]


def read_items(source: Path) -> Iterator[Item]:
    """Yield the responses of `source`, holding a few at a time.

    A folder is a snapshot; both responses of every preference are yielded. A `.parquet` file has
    columns, and any other file JSON objects a line, with `prompt` (a dialogue as JSON, or the text
    of a single user turn) and `response`; what else a row holds is handed on.

    Raises:
        RecordError: A row is not of this form; the message names file, row and field.
    """
    if source.is_dir():
        yield from _snapshot_items(source)
    elif source.suffix == ".parquet":
        for number, row in enumerate(_parquet_rows(source), start=1):
            yield _item(row, f"{source.name} row {number}")
    else:
        yield from _json_items(source)


def _snapshot_items(folder: Path) -> Iterator[Item]:
    for preference in read_snapshot(folder):
        sides = (("chosen", preference.chosen), ("rejected", preference.rejected))
        for side, response in sides:
            fields = {"preference_id": preference.preference_id, "side": side}
            yield Item(preference.prompt, response, fields)


def _json_items(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                place = f"{path.name} line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise RecordError(place, f"not JSON: {error}") from error
                yield _item(row, place)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise RecordError(path.name, f"not a Parquet file: {error}") from error
    with file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _item(row: object, place: str) -> Item:
    if not isinstance(row, Mapping):
        raise RecordError(place, f"a row is an object with prompt and response, not {row!r:.60}")
    for name in ("prompt", "response"):
        if row.get(name) is None:
            raise RecordError(f"{place}: {name}", f"is missing; the row has {', '.join(row)}")
    response = row["response"]
    if not isinstance(response, str):
        raise RecordError(f"{place}: response", f"{response!r:.60} is not a text")
    return Item(_prompt(row["prompt"], place), response, {**row})


def _prompt(value: object, place: str) -> Dialogue:
    """Return the dialogue of a JSON object, of the same as text, or of one user turn."""
    if isinstance(value, str) and value.lstrip().startswith('{"'):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise RecordError(f"{place}: prompt", f"not a dialogue as JSON: {error}") from error
    if isinstance(value, str):
        return Dialogue.from_texts(value)
    if not isinstance(value, Mapping):
        raise RecordError(f"{place}: prompt", f"{value!r:.60} is neither a dialogue nor a text")
    try:
        prompt = Dialogue.from_json(value)
    except RecordError as error:
        raise RecordError(f"{place}: prompt.{error.field}", str(error)) from error
    if not prompt.is_prompt:
        raise RecordError(f"{place}: prompt", "the last turn of a prompt is the user's")
    return prompt
