"""A small sandbox world for tests: a policy that speaks and reward models that know what is good.

Everything is trained once for a session by the commands a worker would start, in a minute or two.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from evaluation.responses import encode_prompts, sample_responses
from language.chat import decode_response
from language.engines import LocalEngine
from language.models import load_policy
from language.tokenizers import load_tokenizer
from records.digests import digest_path
from records.policy_configs import PretrainConfig, SFTConfig
from records.preferences import Axis, Preference
from records.prompts import Demonstration, write_demonstrations
from records.reward_configs import RewardModelConfig
from records.run_configs import ModelShape, OptimizerConfig, RunConfig, SamplingConfig
from records.run_kinds import COMMANDS, CONFIGS
from records.rundirs import RunDirectory, RunInput, RunSpec
from records.snapshots import write_snapshot
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.corpus import sample_corpus, sample_demonstrations, sample_prompts

SAMPLING = SamplingConfig(max_new_tokens=48)
FINETUNING = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8)
NUM_PAIRS = {Axis.HELPFULNESS: 900, Axis.SAFETY: 450}


def reward_model_config(axis: Axis, **fields: Any) -> RewardModelConfig:
    return RewardModelConfig(
        **fields,
        axis=axis,
        pairs_per_batch=32,
        max_tokens=256,
        safety_loss_weight=1.0 if axis is Axis.SAFETY else 0.0,
        optimizer=FINETUNING,
    )


@dataclass(frozen=True, kw_only=True)
class SandboxModels:
    """Folders of models that share a tokenizer."""

    base: Path
    sft: Path
    reward_models: Mapping[Axis, Path]


def run_by_hand(directory: RunDirectory) -> Path:
    """Start the command of a run as an engineer would; return the folder of its outputs."""
    kind = directory.read_spec().kind
    command = [sys.executable, "-m", *COMMANDS[kind], str(directory.root)]
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory.outputs


def run_new(root: Path, config: RunConfig, inputs: Mapping[str, Path]) -> Path:
    """Run `config` on `inputs` in a new run directory; return the folder of its outputs."""
    (kind,) = (kind for kind, type_ in CONFIGS.items() if type_ is type(config))
    spec = RunSpec(
        kind=kind,
        config=config,
        inputs={role: RunInput(path, digest_path(path)) for role, path in inputs.items()},
        code_commit="test",
    )
    return run_by_hand(RunDirectory.create(root, spec))


def train_sandbox_models(folder: Path) -> SandboxModels:
    """Train base, SFT and one reward model for each axis below `folder`."""
    corpus, chosen = folder / "corpus.jsonl", folder / "demonstrations.jsonl"
    write_demonstrations(corpus, _corpus(7_000))
    write_demonstrations(chosen, sample_demonstrations(2, 800))
    pretrain = PretrainConfig(shape=ModelShape())
    inputs = {"demonstrations": corpus}
    base = run_new(folder / "base", pretrain, inputs) / "policy"
    sft_config = SFTConfig(num_epochs=1, batch_size=64, max_tokens=256, optimizer=FINETUNING)
    inputs = {"policy": base, "demonstrations": chosen}
    sft = run_new(folder / "sft", sft_config, inputs) / "policy"
    snapshot = folder / "snapshot"
    write_snapshot(snapshot, list(_preferences(sft)), selection={}, test_share=0.1)
    inputs = {"policy": sft, "snapshot": snapshot}
    return SandboxModels(
        base=base,
        sft=sft,
        reward_models={
            axis: run_new(folder / axis, reward_model_config(axis), inputs) / "reward_model"
            for axis in Axis
        },
    )


def _corpus(num_dialogues: int) -> Iterator[Demonstration]:
    for dialogue in sample_corpus(1, num_dialogues):
        *turns, last = dialogue.turns
        yield Demonstration(prompt=type(dialogue)(tuple(turns)), response=last.text)


def _preferences(policy: Path) -> Iterator[Preference]:
    """Yield pairs of the policy's responses as a careful annotator judges them."""
    engine, tokenizer = LocalEngine(load_policy(policy)), load_tokenizer(policy)
    annotator = SimulatedAnnotator(PERSONAS["careful"], seed=0)
    for axis, num_pairs in NUM_PAIRS.items():
        prompts = sample_prompts(3, num_pairs, 0.75 if axis is Axis.SAFETY else 0.05)
        encoded, _ = encode_prompts(tokenizer, prompts, max_tokens=256)
        sides = [
            sample_responses(
                engine,
                tokenizer,
                encoded,
                sampling=SAMPLING,
                seed_text=f"{axis} {side}",
                rows_per_batch=256,
            )
            for side in ("left", "right")
        ]
        for item, *pair in zip(encoded, *sides, strict=True):
            left, right = (decode_response(tokenizer, response.ids) for response in pair)
            if not left.strip() or not right.strip() or left == right:
                continue
            verdict = annotator.judge(item.prompt.dialogue, left, right, axis)
            yield Preference(
                preference_id=f"{axis}-{item.number}",
                dialogue_id=f"{axis}-{item.number}",
                prompt=item.prompt.dialogue,
                chosen=left if verdict.prefers_left else right,
                rejected=right if verdict.prefers_left else left,
                axis=axis,
                rating=verdict.rating,
                safety_bin=verdict.safety_bin,
            )
