"""Starting runs that bring in policies."""

from django.db import transaction

from records.import_configs import ImportConfig
from records.run_configs import RunKind
from registry.models import Run
from registry.services import create_run
from workers import dispatch


def start_import(*, config: ImportConfig, output_name: str) -> Run:
    """Queue the run that brings in a policy of the hub as the version `output_name`.

    Raises:
        NameTakenError: The name belongs to another version, or a run that is to make it.
    """
    with transaction.atomic():
        run = create_run(
            kind=RunKind.IMPORT,
            config=config,
            inputs={},
            name=f"{output_name}: import"[:80],
            output_name=output_name,
        )
        dispatch.request_run(run.pk)
    return run
