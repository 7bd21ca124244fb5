"""Small real runs: a reward model of a tiny Llama on toy comparisons."""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from registry.models import Artifact, PolicyVersion, Run, Snapshot
from registry.selectors import run_metrics
from registry.services import (
    create_run,
    publish_artifact,
    register_policy,
    register_snapshot,
    request_cancel,
)
from tests.models import write_tiny_policy
from tests.rewardmodels.toys import LEARNING, preference, write_toy_snapshot
from tests.timings import without_timings

NUM_PAIRS = 40
NUM_STEPS = 150
"""Steps of the run that is interrupted in all sorts of ways."""


@cache
def _tiny_policy_folder() -> Path:
    return write_tiny_policy(Path(tempfile.mkdtemp()) / "policy")


def tiny_policy_version(name: str = "SFT") -> PolicyVersion:
    """Return a registered policy that can really speak, if only nonsense."""
    artifact = publish_artifact(path=_tiny_policy_folder(), kind=Artifact.Kind.POLICY)
    return register_policy(name=name, artifact=artifact)


def toy_snapshot(name: str = "toys", *, axis: Axis = Axis.HELPFULNESS) -> Snapshot:
    """Return a registered snapshot in which `red` is preferred to `blue`."""
    preferences = [preference(index, axis=axis) for index in range(NUM_PAIRS)]
    test_ids = [item.dialogue_id for item in preferences[::4]]
    with tempfile.TemporaryDirectory() as folder:
        path = write_toy_snapshot(Path(folder) / "snapshot", preferences, test_ids=test_ids)
        return register_snapshot(name=name, path=path)


@cache
def uninterrupted_metrics() -> list[dict[str, Any]]:
    """Return the metrics of a run of `NUM_STEPS` steps that nothing disturbed, started by hand."""
    run = training_run(num_steps=NUM_STEPS, output_name="")
    folder = Path(tempfile.mkdtemp()) / "run"
    directory = RunDirectory.create(folder, run.directory.read_spec())
    request_cancel(run=run, by="test")  # it only lends its spec
    command = [sys.executable, "-m", "rewardmodels", "train", str(folder)]
    subprocess.run(command, check=True, cwd=settings.BASE_DIR, capture_output=True)
    return written_metrics(directory)


def training_run(*, num_steps: int, **values: Any) -> Run:
    """Return a queued run of `num_steps` steps; one step takes some 10 ms, or a hundred a second.

    Thirty pairs on the train side, one in a step: thirty steps an epoch.
    """
    output_name = values.pop("output_name", f"RM{num_steps}")
    config = RewardModelConfig(
        pairs_per_batch=1,
        num_epochs=num_steps / 30,
        checkpoint_every=values.pop("checkpoint_every", 10),
        other_axis_share=0.0,
        device="cpu",
        num_threads=1,
        optimizer=LEARNING,
        **values,
    )
    inputs = {"policy": tiny_policy_version().artifact, "snapshot": toy_snapshot().artifact}
    return create_run(
        kind=RunKind.REWARD_MODEL, config=config, inputs=inputs, output_name=output_name
    )


def failing_run() -> Run:
    """Return a queued run that raises: there is no safety comparison to learn from."""
    config = RewardModelConfig(axis=Axis.SAFETY, device="cpu", num_threads=1)
    inputs = {"policy": tiny_policy_version().artifact, "snapshot": toy_snapshot().artifact}
    return create_run(kind=RunKind.REWARD_MODEL, config=config, inputs=inputs)


def stored_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the run's metrics in the database without what measures time."""
    return without_timings(run_metrics(run))


def written_metrics(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the run's metrics in its file without what measures time."""
    return without_timings(directory.read_metrics()[0])
