"""Models of the registry."""

from registry.models.artifacts import Artifact, Snapshot
from registry.models.iterations import Iteration
from registry.models.runs import Run, RunInput, RunMetric, RunOutput
from registry.models.versions import PolicyVersion, RewardModelVersion

__all__ = [
    "Artifact",
    "Iteration",
    "PolicyVersion",
    "RewardModelVersion",
    "Run",
    "RunInput",
    "RunMetric",
    "RunOutput",
    "Snapshot",
]
