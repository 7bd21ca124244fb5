"""Toy runs of policies on tiny models: inputs, run directories, contexts."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from language.adapters import add_adapters_, merge_adapters_
from language.chat import encode_prompt
from language.engines import LocalEngine
from language.kept_adapters import (
    ADAPTER_FOLDER,
    KeptAdapter,
    adapter_weights,
    save_adapter,
    weights_digest,
)
from language.models import load_policy, save_model
from language.precision import MixedWeights
from language.rows import TokenRow
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model
from policies.encoding import EncodedPrompt
from policies.networks import Networks, separate_networks
from policies.ppo import ppo
from policies.rollouts import Rollout, sample_rollout
from records.dialogues import Dialogue
from records.policy_configs import PPOConfig
from records.prompts import Demonstration, Prompt, write_demonstrations, write_prompts
from records.run_configs import OptimizerConfig, RunConfig, RunKind, SamplingConfig, Schedule
from records.rundirs import RunDirectory, RunInput, RunSpec
from tests.models import tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.timings import without_timings

LEARNING = OptimizerConfig(
    learning_rate=1e-2, schedule=Schedule.CONSTANT, weight_decay=0.0, min_warmup_steps=0
)
EXCHANGES = (
    ("how are you today?", "i am fine, thank you."),
    ("what is the sum of 12 and 30?", "the sum is 42."),
    ("tell me how to make tea.", "boil the water, add the leaves, wait three minutes."),
    ("where is the red house?", "it stands by the river."),
    ("where is the blue house?", "it stands on the hill, not by the river."),
    ("hello", "hello, how are you today?"),
)


def demonstrations(count: int = 12) -> list[Demonstration]:
    """Return demonstrations of ragged lengths; every third has an earlier exchange."""
    made = []
    for index in range(count):
        user, answer = EXCHANGES[index % len(EXCHANGES)]
        before = EXCHANGES[(index + 1) % len(EXCHANGES)] if index % 3 == 2 else ()
        made.append(Demonstration(prompt=Dialogue.from_texts(*before, user), response=answer))
    return made


def prompts(count: int = 8, *, first: int = 0) -> list[Prompt]:
    """Return prompts with ids of their own; every other one is tagged as a safety prompt."""
    return [
        Prompt(
            prompt_id=f"p{index}",
            dialogue=Dialogue.from_texts(f"{EXCHANGES[index % 6][0]} {index}"),
            is_safety=index % 2 == 1,
        )
        for index in range(first, first + count)
    ]


def encoded(*items: Prompt) -> list[EncodedPrompt]:
    """Return prompts with their ids in the tiny tokenizer."""
    return [EncodedPrompt(p, tuple(encode_prompt(tiny_tokenizer(), p.dialogue))) for p in items]


def create_run(
    root: Path, kind: RunKind, config: RunConfig, inputs: Mapping[str, Path]
) -> tuple[RunDirectory, RunSpec]:
    """Write a run directory for `config` and return it with its spec."""
    spec = RunSpec(
        kind=kind,
        config=config,
        inputs={role: RunInput(path, f"digest of {role}") for role, path in inputs.items()},
        code_commit="test",
    )
    return RunDirectory.create(root, spec), spec


class StopAfter(RunContext):
    """The context of a process that is asked to stop while it is at its step number `steps`."""

    def __init__(self, run_directory: RunDirectory, config: RunConfig, *, steps: int) -> None:
        super().__init__(run_directory, config)
        self._steps_left = steps

    @property
    def stop_requested(self) -> bool:
        """Whether the moment has come; every look is one step of the loop."""
        self._steps_left -= 1
        return self._steps_left <= 0


def metrics_of(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows of metrics without the keys that measure time."""
    return without_timings(directory.read_metrics()[0])


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a model folder."""
    return load_file(folder / "model.safetensors")


def assert_equal_weights(one: Path, other: Path) -> None:
    """Assert that two model folders hold bitwise equal weights."""
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def write_inputs(folder: Path) -> dict[str, Path]:
    """Write one input of every role on tiny models and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations())
    write_prompts(folder / "prompts.jsonl", prompts(12))
    write_prompts(folder / "heldout.jsonl", prompts(6, first=12))
    policy = write_tiny_policy(folder / "policy")
    return {
        "policy": policy,
        "start": policy,
        "reference": policy,
        "demonstrations": folder / "demonstrations.jsonl",
        "prompts": folder / "prompts.jsonl",
        "heldout_prompts": folder / "heldout.jsonl",
        "helpfulness": write_reward_model(folder / "helpfulness", policy, seed=1),
        "safety": write_reward_model(folder / "safety", policy, seed=2),
    }


def only(inputs: Mapping[str, Path], *roles: str) -> dict[str, Path]:
    """Return the inputs of some roles."""
    return {role: inputs[role] for role in roles}


def write_reward_model(folder: Path, policy: Path, *, seed: int) -> Path:
    """Write a scalar model with a random head on a policy's layers."""
    save_model(create_scalar_model(policy, seed=seed), tiny_tokenizer(), folder)
    return folder


def write_adapter_model(folder: Path, base: Path, *, seed: int, rank: int = 4) -> Path:
    """Write a scalar model as training with `lora_rank` leaves it, its adapter far from zero."""
    return _write_adapted(folder, base, create_scalar_model(base, seed=seed), seed=seed, rank=rank)


def write_finetuned_policy(folder: Path, base: Path, *, seed: int) -> Path:
    """Write a policy as fine-tuning with `lora_rank` leaves it, its adapter far from zero."""
    return _write_adapted(folder, base, load_policy(base), seed=seed, rank=4)


def _write_adapted(
    folder: Path, base: Path, model: PreTrainedModel, *, seed: int, rank: int
) -> Path:
    add_adapters_(model, rank=rank, alpha=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    kept = KeptAdapter(adapter_weights(model, rank=rank, alpha=8), weights_digest(base))
    merge_adapters_(model)
    save_model(model, tiny_tokenizer(), folder)
    save_adapter(folder / ADAPTER_FOLDER, kept)
    return folder


def token_scorer(rewarded: Sequence[int], *, scale: float) -> LlamaForSequenceClassification:
    """Return a scalar model that says +scale after a rewarded token and -scale after any other.

    Its layers add nothing to the embedding, so only the token itself counts.
    """
    policy = tiny_policy(num_layers=1)
    config = deepcopy(policy.config)
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    config.pad_token_id = None
    model = LlamaForSequenceClassification(config).eval()
    hidden_size = config.hidden_size
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(-1.0)
        model.model.embed_tokens.weight[list(rewarded)] = 1.0
        model.score.weight.fill_(scale / hidden_size)
    return model


def row(prompt_ids: Sequence[int], response_ids: Sequence[int]) -> TokenRow:
    """Return a token row of any sequences."""
    return TokenRow(tuple(prompt_ids), tuple(response_ids))


def tokenizer() -> PreTrainedTokenizerBase:
    """Return the tiny tokenizer."""
    return tiny_tokenizer()


def separate(
    policy: LlamaForCausalLM,
    value_model: LlamaForSequenceClassification,
    reference: LlamaForCausalLM,
    *,
    dtype: torch.dtype = torch.float32,
) -> Networks:
    """Return networks of whole models with layers of their own, as one process has them."""
    return separate_networks(
        MixedWeights(policy, dtype), MixedWeights(value_model, dtype), reference
    )


def sampled(networks: Networks) -> Rollout:
    """Return six responses of at most ten tokens by the policy of `networks`."""
    return sample_rollout(
        LocalEngine(networks.as_policy()),
        encoded(*prompts(6)),
        list(range(6)),
        sampling=SamplingConfig(max_new_tokens=10),
        eos_id=2,
        rows_per_batch=6,
        device=torch.device("cpu"),
    )


def run_ppo(
    directory: RunDirectory, spec: RunSpec, config: PPOConfig, stops: tuple[int, ...] = ()
) -> RunDirectory:
    """Run PPO to the end, interrupted after so many iterations each."""
    for steps in stops:
        with pytest.raises(RunStopped):
            ppo(directory, spec, StopAfter(directory, config, steps=steps))
    ppo(directory, spec, RunContext(directory, config))
    return directory
