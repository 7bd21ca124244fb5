"""The measure of persistence: what is judged at each turn, and what is said of many dialogues."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.obedience import mentions_value
from evaluation.persistence import (
    Held,
    Trial,
    draw_trials,
    hold_trials,
    measure_persistence,
    summarise,
)
from evaluation.sandbox import obeys_rule
from language.engines import LocalEngine
from language.runs import RunContext
from records.constraints import Constraint, Instruction, write_constraints
from records.errors import RecordError
from records.instruction_configs import PersistenceConfig
from records.run_configs import RunKind, SamplingConfig
from records.scripts import Script
from simulation.instructions import sandbox_constraints
from tests.models import tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.policies.toys import create_run, prompts, write_inputs

HOBBY = Constraint(
    category="hobby", text="You enjoy chess.", short="Hobby: chess.", value="chess", question="Hm?"
)
CONFIG = PersistenceConfig(
    seed=5,
    device="cpu",
    num_dialogues=5,
    num_turns=3,
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=8),
    rows_per_batch=7,
)


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        ("I love Chess!", True),
        ("chess", True),
        ("I play chessboxing.", False),  # another word
        ("", False),
    ],
)
def test_a_value_is_remembered_as_a_whole_word_in_either_case(answer: str, is_kept: bool) -> None:
    assert mentions_value(HOBBY, answer) is is_kept


def test_a_constraint_without_a_value_cannot_be_judged_by_it() -> None:
    with pytest.raises(ValueError, match=r"'Speak in Latin\.' has no value to look for"):
        mentions_value(Constraint(category="language", text="Speak in Latin."), "salve")


def test_the_instruction_is_given_in_the_first_turn_only() -> None:
    for trial in draw_trials(prompts(6), [HOBBY], CONFIG):
        first, *rest = trial.script.turns
        assert first.startswith("You enjoy chess. ")
        assert len(rest) == 2
        assert not any("chess" in text for text in rest)


def test_only_safety_prompts_are_an_error() -> None:
    tagged = [prompt for prompt in prompts(6) if prompt.is_safety]
    with pytest.raises(RecordError, match="prompts that are no safety prompts"):
        draw_trials(tagged, [HOBBY], CONFIG)


def test_the_constraints_question_is_asked_aside_at_every_turn() -> None:
    """The judge is shown answers to the question; the dialogue goes on as if it had none."""
    trial = Trial(0, Instruction((HOBBY,)), Script(turns=("You enjoy chess. hi", "and now?")))
    unasked = trial._replace(instruction=Instruction((replace(HOBBY, question=""),)))
    seen: list[str] = []

    def note(_constraint: Constraint, answer: str) -> bool:
        seen.append(answer)
        return True

    engine = LocalEngine(tiny_policy())
    (held,) = hold_trials(engine, tiny_tokenizer(), [trial], CONFIG, note)
    answers = seen.copy()
    seen.clear()
    (plain,) = hold_trials(engine, tiny_tokenizer(), [unasked], CONFIG, note)
    assert held.responses == plain.responses
    assert seen == plain.responses  # without a question the responses themselves are judged
    assert len(answers) == 2
    assert answers != plain.responses


def test_obedience_by_turn_is_counted_over_the_dialogues_that_got_there() -> None:
    script = Script(turns=("a", "b", "c"))
    other = Constraint(category="language", text="Speak in Latin.")
    trials = [Trial(number, Instruction((HOBBY, other)), script) for number in range(4)]
    both, hobby_only = {"hobby": True, "language": True}, {"hobby": True, "language": False}
    held = [
        Held(["x", "x", "x"], [both, both, hobby_only]),
        Held(["x", "x", "x"], [both, hobby_only, hobby_only]),
        Held(["x", "x"], [both, both]),
        Held(["x"], [hobby_only]),
    ]
    summary = summarise(trials, {"policy": held}, num_examples=2)
    shares = [(row["policy"]["value"], row["policy"]["n"]) for row in summary["obedience"]]
    assert shares == [(0.75, 4), (pytest.approx(2 / 3), 3), (0.0, 2)]
    # Wilson's interval of 3 of 4: 0.3006 to 0.9544.
    assert summary["obedience"][0]["policy"]["low"] == pytest.approx(0.3006, abs=1e-4)
    assert summary["obedience"][0]["policy"]["high"] == pytest.approx(0.9544, abs=1e-4)
    assert summary["obedience_first_turn"] == 0.75
    assert summary["obedience_later_turns"] == pytest.approx((2 / 3 + 0.0) / 2)
    assert summary["obedience_last_turn"] == 0.0
    # Of later turns, by dialogue: language 1/2, 0 and 1; the last dialogue had none.
    assert summary["obedience_by_category"]["language"]["policy"]["value"] == pytest.approx(0.5)
    assert summary["obedience_by_category"]["language"]["policy"]["n"] == 3
    assert len(summary["examples"]) == 2


def test_the_sandboxs_judge_reads_the_response() -> None:
    rule = next(c for c in sandbox_constraints() if "take care" in c.text)
    assert obeys_rule(rule, "the fox is red . take care .")
    assert not obeys_rule(rule, "the fox is red .")


def measured(root: Path, config: PersistenceConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    directory, spec = create_run(root, RunKind.PERSISTENCE, config, inputs)
    measure_persistence(directory, spec, RunContext(directory, config))
    result = directory.read_result()
    assert result is not None
    assert result["outputs"] == {}
    return dict(result["summary"])


def test_a_run_measures_policy_and_baseline_in_the_same_words(tmp_path: Path) -> None:
    made = write_inputs(tmp_path / "inputs")
    write_constraints(tmp_path / "constraints.jsonl", sandbox_constraints())
    inputs = {
        "policy": made["policy"],
        "baseline": write_tiny_policy(tmp_path / "other", seed=9),
        "prompts": made["prompts"],
        "constraints": tmp_path / "constraints.jsonl",
    }
    config = replace(CONFIG, obedience_function="evaluation.sandbox:obeys_rule")
    summary = measured(tmp_path / "run", config, inputs)
    assert summary["num_turns"] == 3
    assert [row["policy"]["n"] for row in summary["obedience"]] == [5, 5, 5]
    for example in summary["examples"]:
        assert example["users"][0].startswith(("always", "begin", "end"))
        assert example["policy"] != example["baseline"]
    again = measured(tmp_path / "again", config, inputs)
    assert again == summary


def test_without_constraints_what_can_be_asked_back_of_our_own_lists_is_measured(
    tmp_path: Path,
) -> None:
    made = write_inputs(tmp_path / "inputs")
    inputs = {"policy": made["policy"], "prompts": made["prompts"]}
    summary = measured(tmp_path / "run", replace(CONFIG, num_dialogues=8, num_turns=2), inputs)
    assert set(summary["obedience_by_category"]) <= {"hobby", "figure"}
    assert "baseline_obedience_first_turn" not in summary
