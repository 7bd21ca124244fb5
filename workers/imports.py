"""Starting runs that bring in policies."""

from records.import_configs import ImportConfig
from records.run_configs import RunKind
from registry.models import Run
from workers.queueing import queue_run


def start_import(*, config: ImportConfig, output_name: str) -> Run:
    """Queue the run that brings in a policy of the hub as the version `output_name`.

    Raises:
        NameTakenError: The name belongs to another version, or a run that is to make it.
    """
    return queue_run(
        kind=RunKind.IMPORT,
        config=config,
        inputs={},
        name=f"{output_name}: import",
        output_name=output_name,
    )
