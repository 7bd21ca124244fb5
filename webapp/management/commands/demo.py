"""`make demo`: the whole loop on this machine, from an empty database to a table of versions."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from embedded.processes import running, workers
from embedded.services import ensure_services
from records.errors import RecordError
from workers.demo.people import PASSWORD
from workers.demo.real_text import RealTextScale, run_real_text
from workers.demo.report import print_accuracies, print_versions, write_result
from workers.demo.runs import DemoError
from workers.demo.sandbox import run_sandbox
from workers.demo.scales import SandboxScale
from workers.demo.screen import Screen


class Command(BaseCommand):
    """Bring up the workers, run the demo through them, and show what came out."""

    help = "Run the whole loop once: preferences, reward models, rejection sampling, PPO."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what may be chosen."""
        parser.add_argument(
            "--data", type=Path, help="folder of hh-rlhf jsonl.gz files, in place of the sandbox"
        )
        parser.add_argument(
            "--versions",
            type=int,
            default=SandboxScale.num_versions,
            choices=range(1, 10),
            help="policy versions of the sandbox, the last of them by PPO",
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Run the demo.

        Raises:
            CommandError: It could not go on; the message says why.
        """
        call_command("migrate", verbosity=0)
        screen = Screen()
        home = settings.DATA_DIR
        data: Path | None = options["data"]
        try:
            with (
                ensure_services(home) as services,
                running(workers(home), services=services, home=home),
            ):
                if data is None:
                    versions = run_sandbox(screen, SandboxScale(num_versions=options["versions"]))
                else:
                    versions = run_real_text(screen, RealTextScale(), data)
        except (DemoError, RecordError) as error:
            raise CommandError(str(error)) from error
        path = home / "demo" / "result.json"
        write_result(path, versions, screen.seconds)
        screen.console.print()
        judge = "wins judged by the truth" if data is None else "wins judged by the reward models"
        print_versions(screen.console, versions, judge)
        print_accuracies(screen.console, versions)
        screen.say(f"{screen.seconds:.0f} s in all. The same figures: {path}")
        _say_how_to_look(screen)


def _say_how_to_look(screen: Screen) -> None:
    screen.headline("Look at it")
    home = settings.DATA_DIR
    is_usual = home == settings.BASE_DIR / ".concord"
    command = "make up" if is_usual else f"CONCORD_HOME={home} make up"
    screen.say(f"{command}, then open the address it prints and sign in as")
    for role in ("annotator", "reviewer", "lead", "admin"):
        screen.say(f"  {role:<10} password {PASSWORD}")
