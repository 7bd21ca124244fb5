"""What the demo shows while it works: headlines, progress bars, one line per finished step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Screen:
    """The terminal, or a log file where there is none: then bars become their last line."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def headline(self, text: str) -> None:
        """Announce a chapter, with the time since the beginning."""
        minutes, seconds = divmod(int(self.seconds), 60)
        self.console.print(f"\n[bold]{text}[/bold]  [dim]{minutes}:{seconds:02d}[/dim]")

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(f"  {text}", highlight=False)

    @contextmanager
    def bars(self) -> Iterator["Bars"]:
        """Yield a set of progress bars that stay when they are done."""
        columns = (
            TextColumn("  {task.description:<34}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, refresh_per_second=4) as progress:
            yield Bars(progress)


class Bars:
    """Progress bars by name; a bar appears when it is first set."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def set(self, name: str, done: int, total: int | None, note: str = "") -> None:
        """Move the bar `name` to `done` of `total`; an unknown total pulses."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)
