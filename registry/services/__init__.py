"""Everything that writes to the registry."""

from registry.services.artifacts import publish_artifact, register_snapshot
from registry.services.finishing import finish_run
from registry.services.iterations import create_iteration, end_iteration, set_iteration_stage
from registry.services.runs import (
    beat_run,
    cancel_run_done,
    claim_run,
    create_run,
    fail_run,
    record_metrics,
    release_run,
    request_cancel,
    retry_run,
)
from registry.services.versions import (
    promote_policy,
    register_policy,
    register_reward_model,
)

__all__ = [
    "beat_run",
    "cancel_run_done",
    "claim_run",
    "create_iteration",
    "create_run",
    "end_iteration",
    "fail_run",
    "finish_run",
    "promote_policy",
    "publish_artifact",
    "record_metrics",
    "register_policy",
    "register_reward_model",
    "register_snapshot",
    "release_run",
    "request_cancel",
    "retry_run",
    "set_iteration_stage",
]
