"""Instructions of the sandbox: read, obeyed, and the truth about obedience found by parsing."""

from itertools import islice

import pytest

from records.constraints import Constraint
from records.dialogues import Dialogue, Role
from simulation import world
from simulation.instructed import (
    PREPROMPTS,
    sample_instructed_corpus,
    sample_instructed_demonstrations,
)
from simulation.instructions import (
    RULES,
    Place,
    Rule,
    sandbox_constraints,
    split_instructions,
)
from simulation.obedience import obedient, obeys
from simulation.parsing import understand
from simulation.utilities import helpfulness

CARE = Rule(Place.END, "take care")
QUESTION = Rule(Place.BEGIN, "good question")


def constraint(rule: Rule) -> Constraint:
    return Constraint(category=rule.place.value, text=rule.text)


@pytest.mark.parametrize(
    ("rule", "response", "is_obeyed"),
    [
        (CARE, "the fox is red . take care .", True),
        (CARE, "Take care!", True),  # the only sentence is the last one
        (CARE, "take care . the fox is red .", False),  # at the wrong end
        (CARE, "the fox is red . have a nice day .", False),  # another closing
        (CARE, "the fox is red . take care", False),  # breaks off
        (CARE, "the fox is red take care .", False),  # no sentence of its own
        (CARE, "", False),
        (QUESTION, "good question . the fox is red .", True),
        (QUESTION, "well , let me think . good question .", False),
    ],
)
def test_obedience_is_the_first_or_the_last_sentence(
    rule: Rule, response: str, is_obeyed: bool
) -> None:
    assert obeys(constraint(rule), response) is is_obeyed


def test_a_constraint_of_another_world_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'Speak in Latin\.' is not one of the sandbox's"):
        obeys(Constraint(category="language", text="Speak in Latin."), "salve .")


def test_instructions_are_read_full_or_terse_and_what_follows_is_the_request() -> None:
    text = "always end with take care . begin : good question . where does the fox live ?"
    assert split_instructions(text) == ((CARE, QUESTION), "where does the fox live ?")
    assert split_instructions("where does it live ?") == ((), "where does it live ?")


def test_an_instruction_changes_neither_the_request_nor_the_truth() -> None:
    plain = Dialogue.from_texts("where does the fox live ?", "in the barn .", "and what about it ?")
    told = Dialogue.from_texts(
        "end : take care . where does the fox live ?", "in the barn .", "and what about it ?"
    )
    assert understand(told) == understand(plain)
    asked = Dialogue.from_texts("end : take care . thanks . where does the fox live ?")
    alone = Dialogue.from_texts("where does the fox live ?")
    answer = "the fox lives in the forest . take care ."
    assert helpfulness(asked, answer) == helpfulness(alone, answer)


def test_an_obedient_response_gives_up_the_manners_that_stand_in_the_way() -> None:
    said = "thank you for asking . the fox is red . have a nice day ."
    assert obedient(said, [CARE]) == "thank you for asking . the fox is red . take care ."
    assert obedient(said, [QUESTION, CARE]) == "good question . the fox is red . take care ."
    assert obedient("the fox is red .", [CARE]) == "the fox is red . take care ."


def test_every_rule_is_obeyed_by_what_is_written_to_obey_it() -> None:
    assert len(sandbox_constraints()) == len(RULES) == 5
    for rule in RULES:
        assert obeys(constraint(rule), obedient("how are you ? i am fine .", [rule]))


def test_the_corpus_obeys_a_turns_own_instruction_and_not_an_earlier_turns() -> None:
    own, earlier = [], []
    for dialogue in islice(sample_instructed_corpus(3, 800), 800):
        before: list[Rule] = []
        for user, response in zip(dialogue.turns[::2], dialogue.turns[1::2], strict=True):
            rules, _ = split_instructions(user.text)
            own += [obeys(constraint(rule), response.text) for rule in rules]
            if not rules:
                earlier += [obeys(constraint(rule), response.text) for rule in before]
            before = [*rules] or before
    assert sum(own) / len(own) > 0.93
    assert sum(earlier) / len(earlier) < 0.25
    assert min(len(own), len(earlier)) > 300


def test_demonstrations_obey_their_own_turn_and_their_users_do_not_react() -> None:
    made = list(sample_instructed_demonstrations(5, 600))
    assert made == list(sample_instructed_demonstrations(5, 600))
    own, earlier = [], []
    for item in made:
        *before, last = [
            split_instructions(turn.text) for turn in item.prompt.turns if turn.role is Role.USER
        ]
        words = [request for _, request in (*before, last)]
        assert not any(text.startswith(r) for text in words for _, r in world.REACTIONS)
        own += [obeys(constraint(rule), item.response) for rule in last[0]]
        if not last[0]:
            earlier += [
                obeys(constraint(rule), item.response) for rules, _ in before for rule in rules
            ]
    assert sum(own) / len(own) > 0.9
    assert sum(earlier) / len(earlier) < 0.25
    assert min(len(own), len(earlier)) > 40
    assert {item.prompt.system for item in made} == {"", *(item.text for item in PREPROMPTS)}


def test_the_corpus_holds_preprompts_and_equal_seeds_give_equal_streams() -> None:
    dialogues = list(sample_instructed_corpus(4, 300))
    assert dialogues == list(sample_instructed_corpus(4, 300))
    systems = {dialogue.system for dialogue in dialogues}
    assert systems == {"", *(item.text for item in PREPROMPTS)}
