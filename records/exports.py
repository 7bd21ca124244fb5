"""Snapshots for other programs: Parquet that `datasets` loads and TRL's RewardTrainer trains on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.chat_templates import CHAT_TEMPLATE
from records.files import folder_written_atomically
from records.preferences import Axis, Preference, Rating
from records.reward_configs import MARGINS, MarginTable
from records.snapshots import read_snapshot

_ROWS_PER_GROUP = 4096
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SCHEMA = pa.schema(
    [
        ("prompt", _MESSAGES),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
        ("margin", pa.float64()),
    ]
)


def export_for_trl(
    snapshot: Path,
    output: Path,
    *,
    margins: Mapping[Rating, float] = MARGINS[MarginTable.SMALL],
    axis: Axis | None = None,
) -> dict[str, int]:
    """Write `train.parquet`, `test.parquet` and `chat_template.jinja` into a new folder `output`.

    The columns are `prompt`, `chosen` and `rejected`, lists of messages, and `margin`, the number
    of the rating in `margins` (0 where there is no rating). Pairs of identical responses teach
    nothing and are left out; other axes than `axis` too, where it is given. Memory does not grow
    with the rows. An existing folder is replaced.

    Returns:
        The number of rows written by side, and `identical`, those left out.

    Raises:
        RecordError: `snapshot` was written with another schema version.
    """
    counts: Counter[str] = Counter(train=0, test=0, identical=0)
    with folder_written_atomically(output) as folder:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        for split in ("train", "test"):
            with pq.ParquetWriter(folder / f"{split}.parquet", _SCHEMA, compression="zstd") as file:
                rows = _rows(snapshot, split, margins, axis, counts)
                while group := list(islice(rows, _ROWS_PER_GROUP)):
                    file.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
                    counts[split] += len(group)
    return dict(counts)


def messages_of(preference: Preference) -> list[dict[str, str]]:
    """Return the prompt as messages of `role` and `content`, the system prompt first."""
    system = preference.prompt.system
    head = [{"role": "system", "content": system}] if system else []
    turns = preference.prompt.turns
    return [*head, *({"role": turn.role.value, "content": turn.text} for turn in turns)]


def _rows(
    snapshot: Path,
    split: str,
    margins: Mapping[Rating, float],
    axis: Axis | None,
    counts: Counter[str],
) -> Iterator[dict[str, Any]]:
    for preference in read_snapshot(snapshot, split=split):
        if axis is not None and preference.axis is not axis:
            continue
        if preference.chosen.strip() == preference.rejected.strip():
            counts["identical"] += 1
            continue
        yield {
            "prompt": messages_of(preference),
            "chosen": [{"role": "assistant", "content": preference.chosen}],
            "rejected": [{"role": "assistant", "content": preference.rejected}],
            "margin": 0.0 if preference.rating is None else margins[preference.rating],
        }
