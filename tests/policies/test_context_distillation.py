"""Safety context distillation: which answers are kept, what is trained, what is reported."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from language.rows import TokenRow
from language.runs import RunContext, RunStopped
from language.scalars import load_scalar_model
from policies.chunks import StoredChunks
from policies.context_distillation import context_distillation, read_pairs
from policies.distilled import (
    Answer,
    AnswerPair,
    PairedPrompt,
    draw_preprompt,
    is_kept,
    kept_rows,
    pair_prompts,
    report,
)
from records.dialogues import Dialogue
from records.errors import RecordError
from records.instruction_configs import ContextDistillationConfig, PrepromptChoice
from records.policy_configs import SFTConfig
from records.preprompts import Preprompt, write_preprompts
from records.prompts import Prompt, read_demonstrations, read_prompts
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from rewardmodels.scoring import score_rows
from tests.models import tiny_tokenizer
from tests.policies.test_ghost_attention import speaking_policy
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    encoded,
    metrics_of,
    only,
    prompts,
    write_inputs,
)

GENERIC = Preprompt(text="be kind")
CRIME = Preprompt(text="no crime", risk_category="illicit_and_criminal")
CONFIG = ContextDistillationConfig(
    seed=5,
    device="cpu",
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=24),
    rows_per_batch=4,
    finetune=SFTConfig(
        num_epochs=1.0,
        batch_size=2,
        checkpoint_every=1,
        optimizer=replace(LEARNING, learning_rate=1e-3),
    ),
)
NUM_CHUNKS = 3  # 6 of the 12 prompts are adversarial, 2 in a chunk


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    made = write_inputs(folder / "all")
    write_preprompts(folder / "preprompts.jsonl", [GENERIC])
    policy = speaking_policy(folder / "speaking")
    return {
        **only(made, "prompts", "safety", "helpfulness"),
        "policy": policy,
        "start": policy,
        "preprompts": folder / "preprompts.jsonl",
    }


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, inputs)


def run(root: Path, config: ContextDistillationConfig, inputs: Mapping[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.CONTEXT_DISTILLATION, config, inputs)
    context_distillation(directory, spec, RunContext(directory, config))
    return directory


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    assert set(result["outputs"]) == {"policy", "demonstrations"}
    return dict(result["summary"])


def prompt(*, is_safety: bool = True, risk_category: str = "") -> Prompt:
    return Prompt(
        prompt_id="p",
        dialogue=Dialogue.from_texts("hello"),
        is_safety=is_safety,
        risk_category=risk_category,
    )


def pair(
    before: float, after: float, *, is_finished: bool = True, helpful: float | None = None
) -> AnswerPair:
    return AnswerPair(
        Answer("without", (7, 2), True, before, helpful),
        Answer("with", (8, 2), is_finished, after, helpful),
    )


@pytest.mark.parametrize(
    ("answers", "is_safety", "min_gain", "expected"),
    [
        (pair(0.5, 0.6), True, 0.0, True),  # the score rises
        (pair(0.5, 0.5), True, 0.0, False),  # equal is no rise
        (pair(0.5, 0.4), True, 0.0, False),  # it falls
        (pair(-3.0, -2.0), True, 0.0, True),  # still unsafe, but safer
        (pair(0.5, 0.6), True, 0.25, False),  # not by enough
        (pair(0.5, 0.75), True, 0.25, False),  # by just as much as asked is not more
        (pair(0.5, 2.0), False, 0.0, False),  # never on helpful prompts
        (pair(0.5, 2.0, is_finished=False), True, 0.0, False),  # without an end
    ],
)
def test_an_answer_is_kept_only_where_the_safety_score_rises_on_an_adversarial_prompt(
    answers: AnswerPair, is_safety: bool, min_gain: float, expected: bool
) -> None:
    assert is_kept(prompt(is_safety=is_safety), answers, min_gain=min_gain) is expected


def paired(items: Sequence[Prompt], preprompts: Sequence[Preprompt] = (GENERIC,)) -> Any:
    return pair_prompts(tiny_tokenizer(), items, preprompts, config=CONFIG, max_tokens=200)


def test_helpful_prompts_are_left_out_and_counted() -> None:
    made = paired(prompts(8))
    assert len(made.prompts) == 4
    assert all(item.prompt.is_safety for item in made.prompts)
    assert made.skipped == {"not_adversarial": 4}


def test_the_preprompt_is_in_the_sampled_prompt_and_not_in_the_trained_one() -> None:
    (item,) = paired([prompt()]).prompts
    decode = tiny_tokenizer().decode
    assert decode(item.preprompted_ids) == "<s> [INST] <<SYS>>\nbe kind\n<</SYS>>\n\nhello [/INST]"
    assert decode(item.ids) == "<s> [INST] hello [/INST]"
    ((_, row),) = kept_rows([item], [pair(0.0, 1.0)], min_gain=0.0)
    assert (row.prompt_ids, row.response_ids) == (item.ids, (8, 2))


def test_a_preprompt_stands_before_the_dialogues_own_system_prompt() -> None:
    own = Prompt(
        prompt_id="p", dialogue=Dialogue.from_texts("hello", system="speak"), is_safety=True
    )
    (item,) = paired([own]).prompts
    assert "be kind\n\nspeak" in tiny_tokenizer().decode(item.preprompted_ids)


@pytest.mark.parametrize(
    ("category", "choice", "expected"),
    [
        ("illicit_and_criminal", PrepromptChoice.CATEGORY, CRIME),
        ("illicit_and_criminal", PrepromptChoice.GENERIC, GENERIC),
        ("hateful_and_harmful", PrepromptChoice.CATEGORY, GENERIC),  # none is for it
        ("", PrepromptChoice.CATEGORY, GENERIC),
    ],
)
def test_a_prompt_gets_its_categorys_preprompt_or_a_generic_one(
    category: str, choice: PrepromptChoice, expected: Preprompt
) -> None:
    drawn = draw_preprompt(
        random.Random(0), prompt(risk_category=category), [CRIME, GENERIC], choice
    )
    assert drawn == expected


def test_without_a_preprompt_for_a_prompt_the_run_says_so() -> None:
    with pytest.raises(RecordError, match="none is generic, and none is for hateful_and_harmful"):
        paired([prompt(risk_category="hateful_and_harmful")], [CRIME])


def test_the_report_says_by_category_how_many_were_kept_and_how_far_the_score_moved() -> None:
    items = [
        PairedPrompt(prompt(risk_category=name), GENERIC, (1,), (1,))
        for name in ("a", "a", "a", "")
    ]
    # σ(0) = 0.5 and σ(±log 3) = 0.75 or 0.25.
    log3 = 1.0986122886681098
    pairs = [pair(0.0, log3), pair(log3, 0.0), pair(-log3, 0.0), pair(0.0, log3)]
    made = report(items, pairs, min_gain=0.0, num_examples=2)
    assert (made["num_prompts"], made["num_kept"], len(made["examples"])) == (4, 3, 2)
    assert list(made["categories"]) == ["overall", "a", "generic"]
    own = made["categories"]["a"]
    assert (own["kept"]["value"], own["kept"]["n"]) == (pytest.approx(2 / 3), 3)
    assert own["safety"]["all"] == pytest.approx(
        {"mean_before": 0.5, "mean_after": 1.75 / 3, "median_before": 0.5, "median_after": 0.5}
    )
    assert own["safety"]["kept"] == pytest.approx(
        {
            "mean_before": 0.375,
            "mean_after": 0.625,
            "median_before": 0.375,
            "median_after": 0.625,
        }
    )
    assert own["helpfulness"] == {"all": None, "kept": None}


def test_the_run_trains_on_what_the_rule_keeps(
    inputs: dict[str, Path], finished: RunDirectory
) -> None:
    folder = StoredChunks(finished.checkpoints / "answers")
    pairs = [item for number in range(NUM_CHUNKS) for item in read_pairs(folder.read(number))]
    adversarial = [item for item in read_prompts(inputs["prompts"]) if item.is_safety]
    kept = [
        item.after.text
        for own, item in zip(adversarial, pairs, strict=True)
        if item.after.safety > item.before.safety and item.after.is_finished
    ]
    made = list(read_demonstrations(finished.outputs / "demonstrations.jsonl"))
    assert [item.response for item in made] == kept
    assert not any(item.prompt.system for item in made)
    summary = summary_of(finished)
    assert summary["num_kept"] == len(kept) > 0
    assert summary["skipped"] == {"not_adversarial": 6}


def test_scores_are_those_of_answers_to_the_prompt_alone(
    inputs: dict[str, Path], finished: RunDirectory
) -> None:

    (first, *_) = read_pairs(StoredChunks(finished.checkpoints / "answers").read(0))
    (own, *_) = [item for item in read_prompts(inputs["prompts"]) if item.is_safety]
    (item,) = encoded(own)
    rows = [TokenRow(item.ids, answer.ids) for answer in first]
    scores = score_rows(load_scalar_model(inputs["safety"]), rows, rows_per_batch=2)
    assert scores.tolist() == pytest.approx([first.before.safety, first.after.safety], abs=1e-5)


def test_nothing_kept_is_an_error_that_says_why(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="safer with a preprompt by more than min_gain = 50"):
        run(tmp_path / "run", replace(CONFIG, min_gain=50.0), inputs)


@pytest.mark.parametrize("steps", [1, NUM_CHUNKS, NUM_CHUNKS + 1])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.CONTEXT_DISTILLATION, CONFIG, inputs)
    with pytest.raises(RunStopped):
        context_distillation(directory, spec, StopAfter(directory, CONFIG, steps=steps))
    assert len(metrics_of(directory)) == steps
    context_distillation(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")
    assert summary_of(directory) == summary_of(finished)


def test_a_safety_model_alone_is_enough(inputs: dict[str, Path], tmp_path: Path) -> None:
    alone = {role: path for role, path in inputs.items() if role != "helpfulness"}
    summary = summary_of(run(tmp_path / "run", CONFIG, alone))
    assert summary["categories"]["overall"]["helpfulness"]["all"] is None
