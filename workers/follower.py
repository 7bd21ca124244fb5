"""Follows the metrics a run writes, whatever the run does to the file."""

import json
from typing import Any

from records.rundirs import RunDirectory


class MetricsFollower:
    """Yields the rows that were appended since it last looked.

    A run that resumes drops rows beyond its checkpoint and writes them again, possibly between two
    looks; then rows are yielded twice or a line is cut. Rows are stored by step, so a repeat does
    no harm, and `every_row` at the end of a run leaves nothing to chance.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._offset = 0

    def new_rows(self) -> list[dict[str, Any]]:
        """Return the rows written since the last call."""
        try:
            rows, self._offset = self._directory.read_metrics(self._offset)
        except json.JSONDecodeError:
            # The file was rewritten and has grown past our place, which is now amid a line.
            return self.every_row()
        return rows

    def every_row(self) -> list[dict[str, Any]]:
        """Return all rows of the file."""
        rows, self._offset = self._directory.read_metrics()
        return rows
