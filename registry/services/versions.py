"""Versions: naming weights, and promoting policies."""

from typing import NamedTuple

from django.db import transaction
from django.db.models.functions import Now

from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunConfig, RunKind
from registry.errors import NameTakenError
from registry.models import Artifact, PolicyVersion, RewardModelVersion

POLICY_KINDS = (
    RunKind.IMPORT,
    RunKind.PRETRAIN,
    RunKind.SFT,
    RunKind.REJECTION_SAMPLING,
    RunKind.PPO,
    RunKind.GHOST_ATTENTION,
    RunKind.CONTEXT_DISTILLATION,
)
"""The kinds of run that make a policy version."""


class VersionName(NamedTuple):
    """The name of a policy version, or with a scope that of a reward-model version."""

    name: str
    scope: str | None

    @property
    def key(self) -> str:
        """One string that no two versions share."""
        return f"reward_model:{self.scope}:{self.name}" if self.scope else f"policy:{self.name}"


def version_name(kind: RunKind, config: RunConfig, output_name: str) -> VersionName | None:
    """Return the name of the version that a run of this config makes; None if it makes none."""
    if isinstance(config, RewardModelConfig):
        is_whole = config.data_share == 1.0
        return VersionName(output_name, config.scope) if is_whole else None
    return VersionName(output_name, None) if kind in POLICY_KINDS else None


def is_name_free(version: VersionName) -> bool:
    """Whether no version has this name."""
    if version.scope is None:
        return not PolicyVersion.objects.filter(name=version.name).exists()
    return not RewardModelVersion.objects.filter(name=version.name, axis=version.scope).exists()


def register_policy(
    *, name: str, artifact: Artifact, parent: PolicyVersion | None = None
) -> PolicyVersion:
    """Name weights that no run of ours made, such as a base model brought in from outside.

    Registering the same artifact under the same name again returns the first row.

    Raises:
        NameTakenError: The name belongs to other weights.
    """
    with transaction.atomic():
        version, is_new = PolicyVersion.objects.get_or_create(
            name=name, defaults={"artifact": artifact, "parent": parent}
        )
    if not is_new and version.artifact_id != artifact.pk:
        raise NameTakenError("policy version", name)
    return version


def register_reward_model(*, name: str, axis: Axis, artifact: Artifact) -> RewardModelVersion:
    """Name reward-model weights that no run of ours made.

    Raises:
        NameTakenError: The name belongs to other weights on this axis.
    """
    with transaction.atomic():
        version, is_new = RewardModelVersion.objects.get_or_create(
            name=name, axis=axis.value, defaults={"artifact": artifact}
        )
    if not is_new and version.artifact_id != artifact.pk:
        raise NameTakenError(f"{axis} reward-model version", name)
    return version


def promote_policy(*, version: PolicyVersion, by: str) -> PolicyVersion:
    """Let a version serve annotators; promoting it again keeps the first time and person.

    Args:
        version: The policy version.
        by: Who decided: a user name, or the name of an iteration.
    """
    PolicyVersion.objects.filter(pk=version.pk, promoted_at=None).update(
        promoted_at=Now(), promoted_by=by
    )
    version.refresh_from_db()
    return version
