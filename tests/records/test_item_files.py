"""Files of items are opened plain or packed, bounded, and tell how far they are read."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import RecordError
from records.item_files import open_item_file
from records.round_items import ItemKind
from tests.factories import lines_of, pair_line, prompt_line

ROWS = [prompt_line(number) for number in range(3000)]
LINES = lines_of(ROWS)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.mark.parametrize("name", ["week.jsonl", "week.jsonl.gz", "week.parquet"])
def test_a_file_is_read_as_its_name_says_and_tells_how_far(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stored"
    contents = {".gz": gzip.compress(LINES), ".parquet": as_parquet(ROWS), ".jsonl": LINES}
    path.write_bytes(contents[Path(name).suffix])
    shares = []
    with open_item_file(path, name=name) as file:
        for number, item in enumerate(file.items(ItemKind.PROMPTS)):
            assert item.prompt.prompt_id == str(number)
            shares.append(file.share)
    assert len(shares) == 3000
    assert shares == sorted(shares)
    assert 0.0 < shares[0] < 1.0
    assert shares[-1] == 1.0


def test_what_unpacks_to_more_than_its_bound_is_refused_before_it_is_read_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 50_000_000))
    with open_item_file(path, max_bytes=1_000_000) as file:
        with pytest.raises(RecordError, match=r"bomb.jsonl.gz unpacks to more than 1,000,000"):
            list(file.items(ItemKind.PROMPTS))
        assert file.share < 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not packed", "Not a gzipped file"),
        (gzip.compress(LINES)[:200], "ended before the end-of-stream"),
        (gzip.compress(LINES)[:40] + b"\xff" * 400, "Error -3 while decompressing"),
    ],
)
def test_a_broken_archive_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "week.jsonl.gz"
    path.write_bytes(content)
    with open_item_file(path) as file, pytest.raises(RecordError, match=message):
        list(file.items(ItemKind.PROMPTS))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"file: .*No such file"), open_item_file(tmp_path / "x"):
        pass


def test_what_is_null_in_a_row_of_parquet_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    first = pair_line("a", sources=("one", "two"), system="Be brief.")
    path.write_bytes(as_parquet([first, pair_line("b")]))
    with open_item_file(path) as file:
        one, two = file.items(ItemKind.PAIRS)
    assert one.responses is not None
    assert two.responses is not None
    assert [response.source for response in (*one.responses, *two.responses)] == [
        *("one", "two"),
        *("", ""),
    ]
    assert (one.prompt.dialogue.system, two.prompt.dialogue.system) == ("Be brief.", "")


def test_a_wrong_row_of_parquet_is_named_like_a_line(tmp_path: Path) -> None:
    path = tmp_path / "week.parquet"
    path.write_bytes(as_parquet([prompt_line("a"), {**prompt_line("b"), "prompt_id": "c" * 201}]))
    with (
        open_item_file(path) as file,
        pytest.raises(RecordError, match=r"prompt_id: week.parquet line 2: 201 characters"),
    ):
        list(file.items(ItemKind.PROMPTS))


def test_parquet_is_bounded_by_what_it_unpacks_to_and_named_where_it_is_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "week.parquet"
    path.write_bytes(as_parquet([prompt_line(n, "x" * 9_000) for n in range(1000)]))
    assert path.stat().st_size < 1_000_000
    with (
        open_item_file(path, max_bytes=1_000_000) as file,
        pytest.raises(RecordError, match=r"week.parquet unpacks to more than 1,000,000 bytes"),
    ):
        list(file.items(ItemKind.PROMPTS))
    assert file.share < 0.5
    path.write_bytes(LINES)
    with (
        pytest.raises(RecordError, match=r"file: week.parquet is not a Parquet file"),
        open_item_file(path),
    ):
        pass
