"""Work done in chunks that survive: each finished chunk is a file, processes share the chunks."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from language.distributed import barrier, gather_objects
from language.runs import RunContext, RunStopped
from records.files import write_text_atomically
from records.rundirs import RunDirectory

WorkOnChunk = Callable[[int], tuple[Any, Mapping[str, float]]]
"""Does the chunk of a number; returns what is stored, ready for JSON, and its row of metrics."""


class StoredChunks:
    """A folder of numbered JSON files."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path

    def num_leading(self) -> int:
        """Return how many chunks are there, counted from the first up to the first missing."""
        number = 0
        while self._file(number).exists():
            number += 1
        return number

    def write(self, number: int, content: object) -> None:
        """Write a chunk, whole or not at all."""
        write_text_atomically(self._file(number), json.dumps(content, allow_nan=False) + "\n")

    def read(self, number: int) -> Any:  # noqa: ANN401 - whatever was written
        """Return what `write` wrote, lists in place of tuples."""
        return json.loads(self._file(number).read_text(encoding="utf-8"))

    def _file(self, number: int) -> Path:
        return self._path / f"chunk-{number:06d}.json"


def work_in_chunks(
    chunks: StoredChunks,
    num_chunks: int,
    work: WorkOnChunk,
    *,
    total_steps: int,
    run_directory: RunDirectory,
    context: RunContext,
    steps_before: int = 0,
) -> None:
    """Do the chunks that are not there yet, a row of metrics each, for chunk k its step k + 1.

    Steps count on from `steps_before`, those of the run's earlier phases.

    In each round every process does one chunk. A chunk must depend on its number alone: then a run
    that is started again comes to the same, with as many processes or others.

    Raises:
        RunStopped: Someone asked the run to stop; finished chunks are kept.
    """
    num_done = min(num_chunks, gather_objects(chunks.num_leading())[0])
    num_done -= num_done % context.world_size if num_done < num_chunks else 0
    if context.is_main and num_done < num_chunks:
        run_directory.drop_metrics_after(steps_before + num_done)
    for round_start in range(num_done, num_chunks, context.world_size):
        number = round_start + context.rank
        content, row = work(number) if number < num_chunks else (None, {})
        first_step = steps_before + round_start + 1
        for step, values in enumerate(gather_objects(row), start=first_step):
            if values:
                context.log(step, total_steps=total_steps, **values)
        if number < num_chunks:
            chunks.write(number, content)
        if context.stop_requested:
            raise RunStopped
    barrier()
