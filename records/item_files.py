"""Files of round items: JSON Lines, plain or gzipped, or Parquet; bounded, read as a stream."""

import gzip
import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from records.errors import RecordError
from records.imports import Row
from records.round_items import ItemKind, RoundItem, item_of, read_round_items

ENDINGS = (".jsonl", ".json", ".txt", ".gz", ".parquet")
_ROWS_AT_ONCE = 64


class ItemFile(ABC):
    """A file of items that tells which share of it is read."""

    def __init__(self, name: str, max_bytes: int | None) -> None:
        self.name = name
        self._max_bytes = max_bytes
        self._num_unpacked = 0

    @property
    @abstractmethod
    def share(self) -> float:
        """The share that is read, 0 to 1."""

    @abstractmethod
    def items(self, kind: ItemKind) -> Iterator[RoundItem]:
        """Yield the items.

        Raises:
            RecordError: A line is wrong (of Parquet: a row), the file is not of its kind or cut
                off, or it unpacks to more than its bound.
        """

    def _count(self, num_bytes: int) -> None:
        """Count bytes as they are unpacked.

        Raises:
            RecordError: They are more than the bound.
        """
        self._num_unpacked += num_bytes
        if self._max_bytes is not None and self._num_unpacked > self._max_bytes:
            raise RecordError("file", f"{self.name} unpacks to more than {self._max_bytes:,} bytes")


class LinesFile(ItemFile):
    """JSON Lines; gzipped where the name ends in `.gz`."""

    def __init__(self, raw: io.FileIO, name: str, *, num_bytes: int, max_bytes: int | None) -> None:
        super().__init__(name, max_bytes)
        self._raw = raw
        self._num_bytes = max(num_bytes, 1)
        self._file: io.BufferedIOBase = (
            gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else io.BufferedReader(raw)
        )

    @property
    def share(self) -> float:
        """The share of the bytes that is read; they are read in blocks."""
        return min(self._raw.tell() / self._num_bytes, 1.0)

    def items(self, kind: ItemKind) -> Iterator[RoundItem]:
        """Yield the items of the lines."""
        return read_round_items(self, self.name, kind)

    def readline(self, limit: int) -> bytes:
        """Return the next line, or `limit` bytes of it; nothing at the end."""
        try:
            line = self._file.readline(limit)
        except (EOFError, OSError, zlib.error) as error:
            raise RecordError("file", str(error)) from error
        self._count(len(line))
        return line


class ParquetFile(ItemFile):
    """Rows with the fields of a line as columns; what is null is left out."""

    def __init__(self, raw: io.FileIO, name: str, *, max_bytes: int | None) -> None:
        super().__init__(name, max_bytes)
        self._num_read = 0
        # Costs a web process 30 MB, which reads none of these files: it hands them to a worker.
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._errors = (pa.ArrowException, OSError)
        try:
            self._file = pq.ParquetFile(raw)
        except self._errors as error:
            raise RecordError("file", f"{name} is not a Parquet file: {error}") from error

    @property
    def share(self) -> float:
        """The share of the rows that is read."""
        return self._num_read / max(int(self._file.metadata.num_rows), 1)

    def items(self, kind: ItemKind) -> Iterator[RoundItem]:
        """Yield the items of the rows."""
        for row in self._rows():
            yield item_of(row, kind)

    def _rows(self) -> Iterator[Row]:
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE):
                self._count(batch.nbytes)
                for values in batch.to_pylist():
                    self._num_read += 1
                    yield Row(Path(self.name), self._num_read, _without_nulls(values))
        except self._errors as error:
            raise RecordError("file", f"{self.name} cannot be read: {error}") from error


@contextmanager
def open_item_file(
    path: Path, *, name: str = "", max_bytes: int | None = None
) -> Iterator[ItemFile]:
    """Open a file of items.

    Args:
        path: Where it lies.
        name: What errors call it; its ending says of which kind it is. The path's, if left out.
        max_bytes: How much it may unpack to.

    Raises:
        RecordError: It cannot be opened.
    """
    name = name or path.name
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb", buffering=0))
            num_bytes = path.stat().st_size
        except OSError as error:
            raise RecordError("file", str(error)) from error
        if name.endswith(".parquet"):
            yield ParquetFile(raw, name, max_bytes=max_bytes)
        else:
            yield LinesFile(raw, name, num_bytes=num_bytes, max_bytes=max_bytes)


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """Return a value without the fields that are null: Parquet has a place for each everywhere."""
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value
