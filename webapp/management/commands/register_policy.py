"""`register_policy NAME MODEL`: a model of the hub, or a folder, becomes a policy version."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from records.errors import RecordError
from records.import_configs import ImportConfig
from registry.errors import RegistryError
from registry.models import Artifact
from registry.services import publish_artifact, register_policy
from workers.imports import start_import


class Command(BaseCommand):
    """Bring in a policy; the same folder under the same name again changes nothing."""

    help = "Name the weights of a model of the Hugging Face hub, or of a folder, as a policy."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("name", help="of the policy version")
        parser.add_argument("model", help="a name such as meta-llama/Llama-2-7b-chat-hf, or a path")
        parser.add_argument("--revision", default="main", help="branch, tag or commit on the hub")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's own signature
        """Register a folder at once, or queue the run that downloads a model.

        Raises:
            CommandError: The model is neither, or the name is taken; says so.
        """
        name, model = options["name"], options["model"]
        try:
            if Path(model).is_dir():
                self._register(name, Path(model).resolve())
            else:
                config = ImportConfig(hub_name=model, revision=options["revision"])
                run = start_import(config=config, output_name=name)
                self.stdout.write(f"run {run.pk} is queued: it downloads {model} as {name}")
        except (RecordError, RegistryError) as error:
            raise CommandError(str(error)) from error

    def _register(self, name: str, folder: Path) -> None:
        """Publish a folder.

        Raises:
            CommandError: It holds no Llama.
        """
        try:
            model_type = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        except (OSError, ValueError) as error:
            raise CommandError(f"{folder}/config.json cannot be read: {error}") from error
        if model_type != "llama" or not any(folder.glob("*.safetensors")):
            raise CommandError(f"{folder} holds no Llama with weights as safetensors")
        artifact = publish_artifact(path=folder, kind=Artifact.Kind.POLICY)
        version = register_policy(name=name, artifact=artifact)
        self.stdout.write(f"{version.name} is registered: {artifact.digest[:16]}")
