"""Constraints, preprompts and scripts: what they refuse, how they are combined and gone on with."""

import random
from pathlib import Path

import pytest

from records.constraints import (
    Constraint,
    Instruction,
    default_constraints,
    draw_instruction,
    read_constraints,
    write_constraints,
)
from records.dialogues import Dialogue
from records.errors import RecordError
from records.instruction_configs import GhostAttentionConfig, Placement
from records.preprompts import (
    Preprompt,
    default_preprompts,
    read_preprompts,
    write_preprompts,
)
from records.prompts import Prompt
from records.scripts import Script, instructed_once, lengthened, script_of

HOBBY = Constraint(category="hobby", text="You enjoy chess.", short="Hobby: chess.", value="chess")
LANGUAGE = Constraint(category="language", text="Speak in Latin.")
FIGURE = Constraint(category="figure", text="Act as Mozart.", short="Figure: Mozart.")


def test_an_instruction_joins_its_sentences_in_full_or_tersely() -> None:
    instruction = Instruction((HOBBY, LANGUAGE, FIGURE))
    assert instruction.text == "You enjoy chess. Speak in Latin. Act as Mozart."
    assert instruction.short == "Hobby: chess. Speak in Latin. Figure: Mozart."


def test_constraints_of_one_category_are_never_combined() -> None:
    chess, tennis = HOBBY, Constraint(category="hobby", text="You enjoy tennis.")
    sizes = set()
    for seed in range(60):
        drawn = draw_instruction(
            random.Random(seed), [chess, tennis, LANGUAGE, FIGURE], max_constraints=3
        ).constraints
        categories = [constraint.category for constraint in drawn]
        assert len(set(categories)) == len(categories)
        sizes.add(len(drawn))
    assert sizes == {1, 2, 3}


def test_our_own_lists_have_the_papers_three_kinds_and_ask_hobbies_and_figures_back() -> None:
    constraints = default_constraints()
    assert {c.category for c in constraints} == {"hobby", "language", "figure"}
    assert {c.category for c in constraints if c.question} == {"hobby", "figure"}
    assert len({c.text for c in constraints}) == len(constraints)


def test_constraints_and_preprompts_survive_their_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_constraints(path, default_constraints()) == len(default_constraints())
    assert list(read_constraints(path)) == default_constraints()
    write_preprompts(path, default_preprompts())
    assert list(read_preprompts(path)) == default_preprompts()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"category": "hobby"}', "line 1 is not a constraint"),
        ('{"category": "", "text": "x"}', "category: a constraint's must not be empty"),
        ('{"category": "a", "text": "x", "question": "?"}', "has a question and no value"),
        ("{", "line 1 is not JSON"),
    ],
)
def test_a_line_that_is_no_constraint_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(RecordError, match=message):
        list(read_constraints(tmp_path / "rows.jsonl"))


def test_every_risk_category_has_a_preprompt_and_some_are_generic() -> None:
    made = default_preprompts()
    assert {item.risk_category for item in made} == {
        "", "illicit_and_criminal", "hateful_and_harmful", "unqualified_advice",
    }  # fmt: skip
    with pytest.raises(RecordError, match="text: a preprompt must not be empty"):
        Preprompt(text=" ")


def test_a_script_is_what_the_user_says_and_goes_on_to_say() -> None:
    dialogue = Dialogue.from_texts("one", "said", "two", system="be kind")
    prompt = Prompt(prompt_id="p", dialogue=dialogue, next_turns=("three",))
    script = script_of(prompt)
    assert script == Script(turns=("one", "two", "three"), system="be kind")
    asked = script.prompt(["a", "b"])
    assert [turn.text for turn in asked.turns] == ["one", "a", "two", "b", "three"]
    assert asked.system == "be kind"
    with pytest.raises(ValueError, match="3 responses leave no turn of 3"):
        script.prompt(["a", "b", "c"])


def test_a_short_script_goes_on_with_whole_others_and_a_long_one_is_cut() -> None:
    first, other = Script(turns=("a", "b")), Script(turns=("x", "y", "z"))
    assert lengthened(first, [other], 4, random.Random(0)).turns == ("a", "b", "x", "y")
    assert lengthened(other, [first], 2, random.Random(0)).turns == ("x", "y")


def test_an_instruction_is_given_once_to_the_first_turn_or_to_the_system_prompt() -> None:
    script = Script(turns=("one", "two"), system="be kind")
    in_user = instructed_once(script, "Speak in Latin.", Placement.USER)
    assert in_user == Script(turns=("Speak in Latin. one", "two"), system="be kind")
    in_system = instructed_once(script, "Speak in Latin.", Placement.SYSTEM)
    assert in_system == Script(turns=("one", "two"), system="Speak in Latin.\n\nbe kind")


def test_fewer_turns_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(RecordError, match="max_turns: 3 is below min_turns, which is 4"):
        GhostAttentionConfig(min_turns=4, max_turns=3)
