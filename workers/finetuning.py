"""Starting supervised fine-tuning: on a frozen set, or on what another run was trained on."""

from records.policy_configs import SFTConfig
from records.run_configs import RunKind
from registry.models import Artifact, PolicyVersion, Run
from workers.queueing import queue_run


def start_finetuning(
    *,
    policy: PolicyVersion,
    demonstrations: Artifact,
    source: str,
    config: SFTConfig,
    output_name: str,
) -> Run:
    """Queue the run that fine-tunes `policy` into the version `output_name`.

    The policy need be neither the size nor of the tokenizer of the one that wrote the
    demonstrations: they are text.

    Args:
        policy: Fine-tuned.
        demonstrations: What it learns from.
        source: What people call them.
        config: How.
        output_name: Name of the version it makes.

    Raises:
        NameTakenError: The name belongs to another version, or a run that is to make it.
    """
    return queue_run(
        kind=RunKind.SFT,
        config=config,
        inputs={"policy": policy.artifact, "demonstrations": demonstrations},
        name=f"{output_name}: SFT on {source}",
        output_name=output_name,
    )
