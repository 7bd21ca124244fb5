"""`simulate_annotators --http URL`: simulated people at the pages of a running site."""

import csv
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation import services
from annotation.services import NewUser
from simulation.annotators import PERSONAS
from simulation.browser import BrowserError
from simulation.visitors import Account, VisitReport, visit
from workers.simulated import DEFAULT_MIX, simulated_names


class Command(BaseCommand):
    """Sign in as many simulated annotators and let them write and judge, as load or as a test."""

    help = "Let simulated annotators sign in to a running site and work in its open rounds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--http", required=True, metavar="URL", help="address of the site")
        who = parser.add_mutually_exclusive_group(required=True)
        who.add_argument(
            "--accounts", type=Path, help="CSV of user name, password and, if wanted, persona"
        )
        who.add_argument(
            "--create",
            type=int,
            metavar="N",
            help="make so many accounts in this database, which must be the site's",
        )
        parser.add_argument("--judgements", type=int, default=100, help="stop after so many")
        parser.add_argument("--seed", type=int, default=0, help="of what they write and judge")
        parser.add_argument(
            "--repeats", type=float, default=0.0, help="share of forms sent twice, from 0 to 1"
        )
        parser.add_argument(
            "--patience", type=float, default=60.0, help="seconds without anything to do"
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Run the visitors.

        Raises:
            CommandError: An option is wrong, or a page was; the message says which.
        """
        if not 0.0 <= options["repeats"] <= 1.0:
            raise CommandError(f"--repeats {options['repeats']} is not between 0 and 1")
        if options["create"] is not None and options["create"] < 1:
            raise CommandError(f"--create {options['create']} is below 1")
        accounts = _read(options["accounts"]) if options["accounts"] else _make(options["create"])
        try:
            report = visit(
                options["http"],
                accounts,
                num_judgements=options["judgements"],
                seed=options["seed"],
                repeat_share=options["repeats"],
                patience_seconds=options["patience"],
            )
        except (BrowserError, ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(_said(report))


def _said(report: VisitReport) -> str:
    return (
        f"{report.num_judged} judged, {report.num_written} written, {report.num_repeated} forms "
        f"sent twice; {len(report.seconds)} pages, half within "
        f"{1000 * report.quantile(0.5):.0f} ms, 95% within {1000 * report.quantile(0.95):.0f} ms"
    )


def _read(path: Path) -> list[Account]:
    """Return the accounts of a file.

    Raises:
        CommandError: It cannot be read, or a line is no account; names the line and the field.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise CommandError(f"--accounts: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not 2 <= len(row) <= 3:
            raise CommandError(f"{path.name} line {number}: name, password and perhaps a persona")
        if len(row) == 3 and row[2] not in PERSONAS:
            known = ", ".join(PERSONAS)
            raise CommandError(f"{path.name} line {number}: persona {row[2]!r} is not of {known}")
    return [Account(*row) for row in rows]


def _make(number: int) -> list[Account]:
    """Make accounts with passwords that only this process knows; each run makes new ones."""
    batch = secrets.token_hex(3)
    accounts = [
        Account(f"{name}-{batch}", secrets.token_urlsafe(16), persona)
        for name, persona in simulated_names(number, DEFAULT_MIX).items()
    ]
    services.create_users(
        users=[
            NewUser(account.username, password=account.password, persona=account.persona)
            for account in accounts
        ]
    )
    return accounts
