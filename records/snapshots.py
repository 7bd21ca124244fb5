"""Snapshots: frozen sets of preferences as Parquet, split by dialogue, named by their content.

pyarrow, forty megabytes of it, is loaded where rows are read or written: web processes only read
manifests.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from records.digests import digest_bytes, digest_file
from records.errors import RecordError
from records.files import folder_written_atomically, write_json_atomically
from records.preferences import Preference

SCHEMA_VERSION = 1
_ROWS_PER_GROUP = 4096
_COLUMNS = (
    "preference_id",
    "dialogue_id",
    "prompt",
    "chosen",
    "rejected",
    "axis",
    "rating",
    "safety_bin",
    "is_safety_prompt",
    "source",
    "round_name",
    "guidelines_version",
    "chosen_policy",
    "rejected_policy",
    "annotator",
    "created_at",
    "split",
)


@dataclass(frozen=True, kw_only=True)
class SnapshotManifest:
    """What a snapshot says of itself."""

    schema_version: int
    digest: str
    """SHA-256 over schema version and Parquet bytes: equal preferences give equal digests."""
    num_rows: int
    num_train: int
    num_test: int
    num_by_axis: dict[str, int]
    selection: dict[str, Any]
    """How the preferences were chosen (rounds, axes, exclusions), as the caller states it."""


def split_of(dialogue_id: str, *, test_share: float) -> str:
    """Return `test` for `test_share` of all dialogues, else `train`; depends on the id alone."""
    fraction = int.from_bytes(hashlib.sha256(dialogue_id.encode()).digest()[:8]) / 2**64
    return "test" if fraction < test_share else "train"


def write_snapshot(
    folder: Path,
    preferences: Iterable[Preference],
    *,
    selection: Mapping[str, Any],
    test_share: float = 0.1,
    splits: Mapping[str, str] | None = None,
) -> SnapshotManifest:
    """Write `preferences.parquet` and `manifest.json` into a new `folder`, in constant memory.

    Rows keep the order given. The split is by dialogue, so no dialogue is on both sides: by the
    hash of its id, or by `splits` (dialogue id to `train` or `test`) for sets that bring their own.

    Raises:
        RecordError: `test_share` is outside [0, 1), or there are no preferences.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not 0.0 <= test_share < 1.0:
        raise RecordError("test_share", f"{test_share} is outside [0, 1)")
    types = {"is_safety_prompt": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
    counts: Counter[str] = Counter()
    with folder_written_atomically(folder) as temporary:
        path = temporary / "preferences.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            rows = iter(_row(item, test_share, splits) for item in preferences)
            while group := list(islice(rows, _ROWS_PER_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                counts.update(row["split"] for row in group)
                counts.update(f"axis:{row['axis']}" for row in group)
        num_rows = counts["train"] + counts["test"]
        if num_rows == 0:
            raise RecordError("preferences", "a snapshot needs at least one preference")
        manifest = SnapshotManifest(
            schema_version=SCHEMA_VERSION,
            digest=digest_bytes(f"{SCHEMA_VERSION}:{digest_file(path)}".encode()),
            num_rows=num_rows,
            num_train=counts["train"],
            num_test=counts["test"],
            num_by_axis={k[5:]: n for k, n in sorted(counts.items()) if k.startswith("axis:")},
            selection=dict(selection),
        )
        write_json_atomically(temporary / "manifest.json", asdict(manifest))
    return manifest


def read_manifest(folder: Path) -> SnapshotManifest:
    """Return the manifest of the snapshot in `folder`.

    Raises:
        RecordError: The snapshot was written with another schema version.
    """
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if data["schema_version"] != SCHEMA_VERSION:
        version = data["schema_version"]
        raise RecordError("schema_version", f"{version} is not {SCHEMA_VERSION}, which this reads")
    return SnapshotManifest(**data)


def read_snapshot(folder: Path, *, split: str | None = None) -> Iterator[Preference]:
    """Yield the preferences of one split (`train` or `test`), or of both, in stored order."""
    import pyarrow.parquet as pq

    read_manifest(folder)
    with pq.ParquetFile(folder / "preferences.parquet") as file:
        for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP):
            for row in batch.to_pylist():
                row_split = row.pop("split")
                if split is None or row_split == split:
                    yield Preference.from_json({**row, "prompt": json.loads(row["prompt"])})


def preference_ids_of(folder: Path, *, annotator: str) -> set[str]:
    """Return the ids of all preferences in a snapshot that one pseudonym stands at."""
    import pyarrow.parquet as pq

    read_manifest(folder)
    table = pq.read_table(
        folder / "preferences.parquet",
        columns=["preference_id"],
        filters=[("annotator", "=", annotator)],
    )
    return set(table.column("preference_id").to_pylist())


def _row(
    preference: Preference, test_share: float, splits: Mapping[str, str] | None
) -> dict[str, Any]:
    row = preference.to_json()
    row["prompt"] = json.dumps(row["prompt"], ensure_ascii=False, sort_keys=True)
    if splits is None:
        row["split"] = split_of(preference.dialogue_id, test_share=test_share)
    else:
        row["split"] = splits[preference.dialogue_id]
    return row
