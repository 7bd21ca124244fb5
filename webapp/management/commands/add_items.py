"""`add_items ROUND FILE`: a round that asks imported items is given more of them, of any number."""

import gzip
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.core.management.base import BaseCommand, CommandError

from annotation.errors import AnnotationError
from annotation.models import Round, User
from annotation.services import add_items
from records.errors import RecordError
from records.round_items import ItemKind, read_round_items

_WIDTH = 30


class Command(BaseCommand):
    """Add the items of a file to an open round, all or none, in constant memory."""

    help = "Add imported prompts or pairs to an open round that was opened with some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--by", help="user name of a lead; the first one if left out")
        parser.add_argument("round", help="name of the round")
        parser.add_argument("file", type=Path, help="JSON Lines, plain or gzipped (.gz)")

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
        path: Path = options["file"]
        try:
            with ExitStack() as stack:
                raw = stack.enter_context(path.open("rb"))
                is_packed = path.suffix == ".gz"
                file = stack.enter_context(gzip.open(raw)) if is_packed else raw
                items = read_round_items(cast(BinaryIO, file), path.name, ItemKind(round_.source))
                size = max(path.stat().st_size, 1)
                added = add_items(
                    lead=lead,
                    round_=round_,
                    items=items,
                    on_progress=lambda number: self._show(number, raw.tell() / size),
                )
        except (OSError, EOFError) as error:
            raise CommandError(f"file: {error}") from error
        except (RecordError, AnnotationError) as error:
            raise CommandError(f"{error}; nothing was added") from error
        self.stdout.write(f"{round_.name}: {added.num_items} items, {added.num_turns} turns added")
        for reason, number in sorted(added.left_out.items()):
            self.stdout.write(f"  left out: {number} {reason}")

    def _show(self, number: int, share: float) -> None:
        """Draw the bar anew; only where somebody looks at it."""
        if self.stdout.isatty():
            full = round(min(share, 1.0) * _WIDTH)
            bar = "#" * full + "." * (_WIDTH - full)
            end = "\n" if share >= 1.0 else ""
            self.stdout.write(f"\r[{bar}] {share:4.0%}  {number:,} lines{end}", ending="")
            self.stdout.flush()


def _lead(username: str | None) -> User:
    leads = User.objects.filter(role=User.Role.LEAD, is_active=True).order_by("pk")
    lead = (leads.filter(username=username) if username else leads).first()
    if lead is None:
        raise CommandError("--by: there is no such lead; make one on the people page first")
    return lead
