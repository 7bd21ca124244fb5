"""What runs leave in `outputs/policy` is a chat model to plain Transformers, token for token."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from language.chat import encode_prompt
from language.generation import GenerationRequest, generate
from language.models import load_policy
from language.runs import Command, RunContext
from language.templates import messages_of
from language.tokenizers import load_tokenizer
from policies.ppo import ppo
from policies.rejection_sampling import rejection_sampling
from records.dialogues import Dialogue
from records.policy_configs import PPOConfig, RejectionSamplingConfig, SFTConfig
from records.run_configs import RunConfig, RunKind, SamplingConfig
from tests.policies.toys import (
    LEARNING,
    create_run,
    only,
    write_adapter_model,
    write_inputs,
    write_reward_model,
)
from tests.serving import EXCHANGES, write_spoken_policy

DIALOGUES = [
    *(Dialogue.from_texts(user) for user, _ in EXCHANGES),
    Dialogue.from_texts(*EXCHANGES[0], " and now?\nsay é"),
    Dialogue.from_texts("where is the red house?", "by  the river.", "why?", system="be kind"),
]
REJECTION = RejectionSamplingConfig(
    device="cpu",
    num_responses=2,
    sampling=SamplingConfig(max_new_tokens=40),
    rows_per_batch=8,
    finetune=SFTConfig(num_epochs=1.0, batch_size=4, optimizer=LEARNING),
)
PPO = PPOConfig(
    device="cpu",
    num_iterations=1,
    batch_size=4,
    minibatch_size=4,
    eval_every=1,
    sampling=SamplingConfig(max_new_tokens=20),
    optimizer=replace(LEARNING, learning_rate=1e-3),
)
RUNS: dict[str, tuple[RunKind, Command, RunConfig]] = {
    "rejection sampling": (RunKind.REJECTION_SAMPLING, rejection_sampling, REJECTION),
    "rejection sampling with adapters": (
        RunKind.REJECTION_SAMPLING,
        rejection_sampling,
        replace(REJECTION, finetune=replace(REJECTION.finetune, lora_rank=2)),
    ),
    "PPO": (RunKind.PPO, ppo, PPO),
    "PPO with adapters": (RunKind.PPO, ppo, replace(PPO, lora_rank=2)),
}
ROLES = {
    RunKind.REJECTION_SAMPLING: ("policy", "start", "prompts", "helpfulness", "safety"),
    RunKind.PPO: ("policy", "reference", "prompts", "heldout_prompts", "helpfulness", "safety"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    policy = write_spoken_policy(folder / "spoken")
    return {
        **write_inputs(folder / "all"),
        **dict.fromkeys(("policy", "start", "reference"), policy),
        "helpfulness": write_adapter_model(folder / "helpfulness", policy, seed=1),
        "safety": write_reward_model(folder / "safety", policy, seed=2),
    }


@pytest.fixture(scope="module", params=list(RUNS))
def exported(
    request: pytest.FixtureRequest,
    inputs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    kind, command, config = RUNS[request.param]
    root = tmp_path_factory.mktemp("run") / "run"
    directory, spec = create_run(root, kind, config, only(inputs, *ROLES[kind]))
    if "reference" in spec.inputs:  # which is the policy, by its digest too
        spec = replace(spec, inputs={**spec.inputs, "reference": spec.inputs["policy"]})
    command(directory, spec, RunContext(directory, config))
    return directory.outputs / "policy"


def ours(folder: Path, dialogue: Dialogue) -> tuple[list[int], list[int]]:
    """Return a prompt's ids and those of the greedy response, as we make both."""
    ids = encode_prompt(load_tokenizer(folder), dialogue)
    request = GenerationRequest(tuple(ids), 0.0, 1.0, 32, seed=0)
    ((answer,),) = generate(load_policy(folder), [request], eos_ids=[2])
    return ids, list(answer.ids)


def test_plain_transformers_gives_the_same_prompt_and_the_same_response(exported: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    num_ended = 0
    for dialogue in DIALOGUES:
        asked = tokenizer.apply_chat_template(
            messages_of(dialogue),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            output = model.generate(**asked, max_new_tokens=32, do_sample=False)
        num_asked = asked["input_ids"].shape[1]
        theirs = output[0, :num_asked].tolist(), output[0, num_asked:].tolist()
        assert theirs == ours(exported, dialogue)
        num_ended += theirs[1][-1] == 2
    assert num_ended > 0, "its configuration names the end token"
