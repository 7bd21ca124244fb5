"""Queueing a run that somebody asked for: its row, and the nudge after commit."""

from collections.abc import Mapping

from django.db import transaction

from records.run_configs import RunConfig, RunKind
from registry.models import Artifact, Run
from registry.services import create_run
from workers import dispatch

MAX_NAME = 80
"""Characters of a run's name that are kept."""


def queue_run(
    *,
    kind: RunKind,
    config: RunConfig,
    inputs: Mapping[str, Artifact],
    name: str,
    output_name: str = "",
) -> Run:
    """Return the run, queued; a `name` that is too long is cut.

    Raises:
        NameTakenError: `output_name` belongs to another version, or a run that is to make it.
    """
    with transaction.atomic():
        run = create_run(
            kind=kind,
            config=config,
            inputs=dict(inputs),
            name=name[:MAX_NAME],
            output_name=output_name,
        )
        dispatch.request_run(run.pk)
    return run
