"""`import_comparisons --set tulu1 FOLDER`: a graded set becomes a closed round with its people."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.models import User
from annotation.services import import_graded_set
from records.errors import RecordError
from records.graded_sets import GRADED_SETS, read_graded_set


class Command(BaseCommand):
    """Import a graded set; again adds nothing."""

    help = "Store published comparisons with their annotators' judgements as a closed round."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--set", required=True, choices=list(GRADED_SETS), dest="name")
        parser.add_argument("--by", help="user name of a lead; the first one if left out")
        parser.add_argument("folder", type=Path, help="of the set, or of all sets")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Import.

        Raises:
            CommandError: There is no such lead, or the data are wrong; names file, line and field.
        """
        leads = User.objects.filter(role=User.Role.LEAD, is_active=True).order_by("pk")
        if options["by"]:
            leads = leads.filter(username=options["by"])
        lead = leads.first()
        if lead is None:
            raise CommandError("--by: there is no such lead; make one on the people page first")
        try:
            data = read_graded_set(options["name"], options["folder"])
            result = import_graded_set(data=data, imported_by=lead)
        except RecordError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{result.round.name}: {data.report.num_read} rows read, {result.num_comparisons} "
            f"comparisons and {result.num_judgements} judgements stored, "
            f"{result.num_known} known before"
        )
        for what, counts in (("mended", data.report.mended), ("left out", result.skipped)):
            for reason, number in sorted(counts.items()):
                if number:
                    self.stdout.write(f"  {what}: {number} {reason}")
