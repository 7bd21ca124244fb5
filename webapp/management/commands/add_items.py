"""`add_items ROUND FILE`: a round that asks imported items is given more of them, of any number."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from annotation.errors import AnnotationError
from annotation.models import Round, User
from annotation.services import AddedItems, add_items
from records.errors import RecordError
from records.item_files import open_item_file
from records.round_items import ItemKind


class Command(BaseCommand):
    """Add the items of a file to an open round, all or none, in constant memory."""

    help = "Add imported prompts or pairs to an open round that was opened with some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--by", help="user name of a lead; the first one if left out")
        parser.add_argument("round", help="name of the round")
        parser.add_argument(
            "file", type=Path, help="JSON Lines, plain or gzipped (.gz), or Parquet (.parquet)"
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Add the items.

        Raises:
            CommandError: There is no such lead, round or file, or a line is wrong; names the field,
                the line and the bound. Nothing is stored then.
        """
        lead = _lead(options["by"])
        round_ = Round.objects.filter(name=options["round"]).first()
        if round_ is None:
            raise CommandError(f"round: there is no round {options['round']!r}")
        if not round_.is_imported:
            raise CommandError(f"round: the prompts of {round_.name!r} are written in it")
        try:
            # Not `self.stdout`, which ends all that is written with a line.
            console = Console(file=options.get("stdout") or sys.stdout)
            added = _add(lead, round_, options["file"], console)
        except (RecordError, AnnotationError) as error:
            raise CommandError(f"{error}; nothing was added") from error
        self.stdout.write(f"{round_.name}: {added.num_items} items, {added.num_turns} turns added")
        for reason, number in sorted(added.left_out.items()):
            self.stdout.write(f"  left out: {number} {reason}")


def _add(lead: User, round_: Round, path: Path, console: Console) -> AddedItems:
    """Add the items; where somebody looks, a bar shows how far the file is read."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TextColumn("{task.fields[lines]:,} lines"),
        TimeElapsedColumn(),
    )
    with (
        open_item_file(path) as file,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task(path.name, total=1.0, lines=0)
        return add_items(
            lead=lead,
            round_=round_,
            items=file.items(ItemKind(round_.source)),
            on_progress=lambda number: progress.update(bar, completed=file.share, lines=number),
        )


def _lead(username: str | None) -> User:
    leads = User.objects.filter(role=User.Role.LEAD, is_active=True).order_by("pk")
    lead = (leads.filter(username=username) if username else leads).first()
    if lead is None:
        raise CommandError("--by: there is no such lead; make one on the people page first")
    return lead
