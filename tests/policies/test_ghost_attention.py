"""Ghost Attention: the instruction's places, the mask, the choice by reward models, resuming."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from language.chat import encode_response
from language.conversations import Spoken
from language.logprobs import response_losses
from language.models import save_model
from language.rows import pad_rows
from language.runs import RunContext, RunStopped
from policies.chunks import StoredChunks
from policies.encoding import encode_demonstrations
from policies.ghost_attention import ghost_attention, read_spoken
from policies.instructed import (
    InstructedDialogue,
    TrainedRows,
    instructed_everywhere,
    plan_dialogues,
    trained_rows,
)
from records.constraints import Constraint, write_constraints
from records.errors import RecordError
from records.instruction_configs import GhostAttentionConfig, Placement, TrainedTurns
from records.policy_configs import SFTConfig
from records.prompts import read_demonstrations
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from records.scripts import Script
from tests.models import tiny_policy, tiny_tokenizer
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    demonstrations,
    metrics_of,
    only,
    prompts,
    write_inputs,
)

CONSTRAINTS = [
    Constraint(category="end", text="always end with thank you.", short="end: thank you."),
    Constraint(category="begin", text="always begin with hello.", short="begin: hello."),
]
CONFIG = GhostAttentionConfig(
    seed=5,
    device="cpu",
    num_dialogues=7,
    min_turns=2,
    max_turns=3,
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=24),
    rows_per_batch=3,
    finetune=SFTConfig(
        num_epochs=1.0,
        batch_size=3,
        checkpoint_every=1,
        optimizer=replace(LEARNING, learning_rate=1e-3),
    ),
)
NUM_CHUNKS = 3  # 7 dialogues, 3 in a chunk
DIALOGUE = InstructedDialogue(
    script=Script(turns=("hello", "how are you?", "where is it?")),
    instruction="always end with thank you.",
    trained_instruction="end: thank you.",
)


def speaking_policy(folder: Path) -> Path:
    """Write a tiny policy that has learned to end its responses; return its folder."""
    policy = tiny_policy()
    rows = encode_demonstrations(tiny_tokenizer(), demonstrations(6), max_tokens=256).rows
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(30):
        loss = response_losses(policy, rows).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    save_model(policy, tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    made = write_inputs(folder / "all")
    write_constraints(folder / "constraints.jsonl", CONSTRAINTS)
    policy = speaking_policy(folder / "speaking")
    return {
        **only(made, "prompts", "helpfulness", "safety", "demonstrations"),
        "policy": policy,
        "start": policy,
        "constraints": folder / "constraints.jsonl",
    }


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, plain(inputs))


def plain(inputs: dict[str, Path]) -> dict[str, Path]:
    return only(inputs, "policy", "start", "prompts", "constraints")


def run(root: Path, config: GhostAttentionConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.GHOST_ATTENTION, config, inputs)
    ghost_attention(directory, spec, RunContext(directory, config))
    return directory


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    assert set(result["outputs"]) == {"policy", "demonstrations"}
    return dict(result["summary"])


def spoken(*texts: str) -> list[Spoken]:
    return [Spoken(text, tuple(encode_response(tiny_tokenizer(), text)), True) for text in texts]


def rows_of(responses: list[Spoken], **changes: Any) -> TrainedRows:
    config = replace(CONFIG, **changes)
    return trained_rows(
        tiny_tokenizer(), [DIALOGUE], [responses], config=config, max_tokens=256, source="V3"
    )


def decoded(ids: tuple[int, ...]) -> str:
    return str(tiny_tokenizer().decode(list(ids)))


def test_responses_are_sampled_with_the_instruction_in_full_before_every_user_turn() -> None:
    assert instructed_everywhere(DIALOGUE).turns == (
        "always end with thank you. hello",
        "always end with thank you. how are you?",
        "always end with thank you. where is it?",
    )


def test_the_trained_row_has_the_instruction_once_and_a_loss_on_the_last_response_alone() -> None:
    ((row, demonstration),) = rows_of(spoken("fine", "well", "there")).rows
    # All that is before the last response is prompt: no earlier response has a loss.
    assert decoded(row.prompt_ids) == (
        "<s> [INST] end: thank you. hello [/INST] fine </s>"
        "<s> [INST] how are you? [/INST] well </s>"
        "<s> [INST] where is it? [/INST]"
    )
    assert decoded(row.response_ids) == "there </s>"
    batch = pad_rows([row], pad_id=0)
    num_prompt, num_response = len(row.prompt_ids), len(row.response_ids)
    expected = [False] * num_prompt + [True] * num_response
    assert batch.response_mask_BT[0].tolist() == expected
    assert len(response_losses(tiny_policy(), [row])) == num_response
    assert demonstration.response == "there"
    assert demonstration.source == "V3"
    first = demonstration.prompt.turns[0].text
    assert first == "end: thank you. hello"


def test_the_mask_by_hand_on_the_ids_of_a_short_dialogue() -> None:
    """Two turns: 12 ids of the first exchange and 7 of the open one have no loss, 3 have."""
    dialogue = InstructedDialogue(Script(turns=("hello", "how are you?")), "x", "no")
    made = trained_rows(
        tiny_tokenizer(),
        [dialogue],
        [spoken("fine", "fine")],
        config=CONFIG,
        max_tokens=256,
        source="",
    )
    ((row, _),) = made.rows
    begin, end, bos, eos, fine = 311, 312, 1, 2, (378, 283, 301)
    assert row.prompt_ids.count(bos) == 2
    assert row.prompt_ids.count(eos) == 1  # the earlier response, in the prompt, with its end
    assert row.prompt_ids[:2] == (bos, begin)
    assert row.prompt_ids[-1] == end
    middle = row.prompt_ids.index(end)
    assert row.prompt_ids[middle + 1 : middle + 6] == (301, *fine, eos)
    assert row.response_ids == (301, *fine, eos)


def test_every_response_may_be_trained_each_as_the_last_of_a_row_of_its_own() -> None:
    made = rows_of(spoken("fine", "well", "there"), trained_turns=TrainedTurns.EVERY)
    assert [decoded(item.row.response_ids) for item in made.rows] == [
        "fine </s>",
        "well </s>",
        "there </s>",
    ]
    assert decoded(made.rows[0].row.prompt_ids) == "<s> [INST] end: thank you. hello [/INST]"


def test_the_instruction_may_be_trained_as_the_system_prompt() -> None:
    ((row, _),) = rows_of(spoken("fine", "well"), placement=Placement.SYSTEM).rows
    assert decoded(row.prompt_ids).startswith(
        "<s> [INST] <<SYS>>\nend: thank you.\n<</SYS>>\n\nhello [/INST] fine </s>"
    )


def test_what_gives_no_row_is_counted() -> None:
    cut = [*spoken("fine"), Spoken("well", (9, 9), False)]
    assert rows_of(cut).skipped == {"unfinished": 1}
    assert rows_of(spoken("fine")).skipped == {"too_short": 1}
    assert rows_of([Spoken("[INST] now", (9, 2), True), *spoken("well")]).skipped == {
        "holds_tags": 1
    }
    long = trained_rows(
        tiny_tokenizer(),
        [DIALOGUE],
        [spoken("fine", "well")],
        config=CONFIG,
        max_tokens=20,
        source="",
    )
    assert (long.rows, long.skipped) == ([], {"too_long": 1})  # never shortened


def test_dialogues_are_drawn_with_their_turns_constraints_and_terse_forms() -> None:
    made = plan_dialogues(prompts(12), CONSTRAINTS, replace(CONFIG, num_dialogues=200))
    lengths = [len(dialogue.script.turns) for dialogue in made]
    assert set(lengths) == {2, 3}
    texts = {dialogue.instruction for dialogue in made}
    end, begin = (constraint.text for constraint in CONSTRAINTS)
    assert texts == {end, begin, f"{end} {begin}", f"{begin} {end}"}
    share = sum(d.trained_instruction != d.instruction for d in made) / len(made)
    assert 0.4 < share < 0.6
    safety_texts = {p.dialogue.turns[0].text for p in prompts(12) if p.is_safety}
    assert not safety_texts & {turn for dialogue in made for turn in dialogue.script.turns}


def test_only_safety_prompts_are_an_error() -> None:
    tagged = [prompt for prompt in prompts(12) if prompt.is_safety]
    with pytest.raises(RecordError, match="prompts that are no safety prompts"):
        plan_dialogues(tagged, CONSTRAINTS, CONFIG)


def test_the_rows_are_those_of_the_dialogues_that_were_held(finished: RunDirectory) -> None:
    folder = StoredChunks(finished.checkpoints / "dialogues")
    held = [dialogue for n in range(NUM_CHUNKS) for dialogue in read_spoken(folder.read(n))]
    assert len(held) == 7
    made = list(read_demonstrations(finished.outputs / "demonstrations.jsonl"))
    ended = [responses for responses in held if responses[-1].is_finished]
    assert [demonstration.response for demonstration in made] == [r[-1].text for r in ended]
    assert summary_of(finished)["num_rows"] == len(made) >= 2
    for demonstration in made:
        first, *rest = [t.text for t in demonstration.prompt.turns if t.role == "user"]
        assert "thank you" in first or "hello" in first.partition(".")[0]
        assert not any("always" in text or "end:" in text for text in rest)


def test_several_responses_need_reward_models_and_the_best_goes_on(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, num_responses=3, num_dialogues=3, rows_per_batch=12)
    with pytest.raises(RecordError, match="num_responses: 3 responses per turn need reward models"):
        run(tmp_path / "none", config, plain(inputs))
    half = {**plain(inputs), "safety": inputs["safety"]}
    with pytest.raises(RecordError, match="safety alone does not choose"):
        run(tmp_path / "half", CONFIG, half)
    both = {**half, "helpfulness": inputs["helpfulness"]}
    (row, *_) = metrics_of(run(tmp_path / "both", config, both))
    (lucky, *_) = metrics_of(run(tmp_path / "one", replace(config, num_responses=1), both))
    assert row["best_score"] > lucky["best_score"]


@pytest.mark.parametrize("steps", [1, NUM_CHUNKS, NUM_CHUNKS + 1])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.GHOST_ATTENTION, CONFIG, plain(inputs))
    with pytest.raises(RunStopped):
        ghost_attention(directory, spec, StopAfter(directory, CONFIG, steps=steps))
    assert len(metrics_of(directory)) == steps
    ghost_attention(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")
    assert summary_of(directory) == summary_of(finished)


def test_demonstrations_are_trained_on_beside(inputs: dict[str, Path], tmp_path: Path) -> None:
    sources = {**plain(inputs), "demonstrations": inputs["demonstrations"]}
    summary = summary_of(run(tmp_path / "run", CONFIG, sources))
    assert summary["num_demonstrations_beside"] == 12
