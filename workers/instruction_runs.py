"""Starting Ghost Attention, its measure, and context distillation: from versions to run inputs."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from records.constraints import Constraint, write_constraints
from records.errors import RecordError
from records.instruction_configs import (
    ContextDistillationConfig,
    GhostAttentionConfig,
    PersistenceConfig,
)
from records.preferences import Axis
from records.preprompts import Preprompt, write_preprompts
from records.run_configs import RunKind
from registry.models import Artifact, PolicyVersion, RewardModelVersion, Run, Snapshot
from registry.services import publish_artifact
from workers.prompt_sets import PromptUse, prompt_set
from workers.queueing import queue_run

MAX_PROMPTS = 10_000
"""Most prompts that a run draws from a snapshot."""


def start_ghost_attention(
    *,
    policy: PolicyVersion,
    start: PolicyVersion,
    snapshot: Snapshot,
    config: GhostAttentionConfig,
    output_name: str,
    constraints: Sequence[Constraint] = (),
    reward_models: Sequence[RewardModelVersion] = (),
    demonstrations: Artifact | None = None,
) -> Run:
    """Queue the run that makes the version `output_name` keep to instructions.

    Args:
        policy: Sampled from.
        start: Fine-tuned.
        snapshot: What its users said is what users say in the dialogues.
        config: How.
        output_name: Name of the version it makes.
        constraints: What instructions are drawn from; none: the lists of our own.
        reward_models: One for each axis, which choose among responses; or none.
        demonstrations: Trained on beside.

    Raises:
        RecordError: The snapshot has no prompts, one of two reward models is missing, or several
            responses are to be sampled and nothing chooses.
        NameTakenError: The name belongs to another version, or a run that is to make it.
    """
    if len(reward_models) == 1:
        missing = next(axis for axis in Axis if axis != reward_models[0].axis)
        raise RecordError(missing.value, "one reward model alone does not choose; give both")
    if config.num_responses > 1 and not reward_models:
        message = f"{config.num_responses} responses per turn need reward models that choose"
        raise RecordError("num_responses", message)
    inputs = {
        "policy": policy.artifact,
        "start": start.artifact,
        "prompts": _prompts(snapshot, PromptUse.TRAINING),
        **{model.axis: model.artifact for model in reward_models},
        **_given("constraints", constraints, write_constraints),
        **({} if demonstrations is None else {"demonstrations": demonstrations}),
    }
    name = f"{output_name}: Ghost Attention"
    return queue_run(
        kind=RunKind.GHOST_ATTENTION,
        config=config,
        inputs=inputs,
        name=name,
        output_name=output_name,
    )


def start_context_distillation(
    *,
    policy: PolicyVersion,
    start: PolicyVersion,
    snapshot: Snapshot,
    safety: RewardModelVersion,
    config: ContextDistillationConfig,
    output_name: str,
    helpfulness: RewardModelVersion | None = None,
    preprompts: Sequence[Preprompt] = (),
    demonstrations: Artifact | None = None,
) -> Run:
    """Queue the run that distils safety preprompts into the version `output_name`.

    Args:
        policy: Answers with and without a preprompt.
        start: Fine-tuned.
        snapshot: Its adversarial prompts are answered, with the risk categories they were given.
        safety: Says which answers are kept.
        config: How.
        output_name: Name of the version it makes.
        helpfulness: Scored for the report.
        preprompts: None: ours.
        demonstrations: Trained on beside.

    Raises:
        RecordError: The snapshot has no prompts.
        NameTakenError: The name belongs to another version, or a run that is to make it.
    """
    inputs = {
        "policy": policy.artifact,
        "start": start.artifact,
        "prompts": _prompts(snapshot, PromptUse.TRAINING),
        "safety": safety.artifact,
        **({} if helpfulness is None else {"helpfulness": helpfulness.artifact}),
        **_given("preprompts", preprompts, write_preprompts),
        **({} if demonstrations is None else {"demonstrations": demonstrations}),
    }
    name = f"{output_name}: context distillation"
    return queue_run(
        kind=RunKind.CONTEXT_DISTILLATION,
        config=config,
        inputs=inputs,
        name=name,
        output_name=output_name,
    )


def start_persistence(
    *,
    policy: PolicyVersion,
    snapshot: Snapshot,
    config: PersistenceConfig,
    baseline: PolicyVersion | None = None,
    constraints: Sequence[Constraint] = (),
) -> Run:
    """Queue a measure of how long `policy` keeps to an instruction.

    Args:
        policy: Measured.
        snapshot: What users said on its held-out side is what they say in the dialogues.
        config: How.
        baseline: Measured beside it, in the same words.
        constraints: None: those lists of our own that can be asked back.

    Raises:
        RecordError: The snapshot has no such prompts, or a policy is compared with itself.
    """
    if baseline is not None and baseline.artifact_id == policy.artifact_id:
        raise RecordError("baseline", f"{baseline} is the policy itself; choose another")
    inputs = {
        "policy": policy.artifact,
        "prompts": _prompts(snapshot, PromptUse.EVALUATION),
        **({} if baseline is None else {"baseline": baseline.artifact}),
        **_given("constraints", constraints, write_constraints),
    }
    name = f"{policy.name}: persistence"
    return queue_run(kind=RunKind.PERSISTENCE, config=config, inputs=inputs, name=name)


def _prompts(snapshot: Snapshot, use: PromptUse) -> Artifact:
    return prompt_set("", snapshot=snapshot, use=use, max_prompts=MAX_PROMPTS)


def _given(
    role: str,
    rows: Sequence[Constraint] | Sequence[Preprompt],
    write: Callable[..., int],
) -> dict[str, Artifact]:
    """Return rows that a person has given as the artifact of a role; nothing where there are none.

    Roles are named as the kinds of artifact are.
    """
    if not rows:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{role}.jsonl"
        write(path, rows)
        return {role: publish_artifact(path=path, kind=Artifact.Kind(role))}
