"""Dialogues alternate, preferences carry a prompt, and both survive JSON."""

import pytest

from records.dialogues import Dialogue, Role, Turn
from records.errors import RecordError
from records.preferences import Axis, Preference, Rating, SafetyBin


def a_preference(**changes: object) -> Preference:
    values: dict[str, object] = {
        "preference_id": "p1",
        "dialogue_id": "d1",
        "prompt": Dialogue.from_texts("hello", "hi", "how are you ?", system="be kind"),
        "chosen": "well",
        "rejected": "bad",
        "axis": Axis.SAFETY,
        "rating": Rating.BETTER,
        "safety_bin": SafetyBin.BOTH_SAFE,
    }
    return Preference(**{**values, **changes})  # type: ignore[arg-type]


def test_a_dialogue_begins_with_the_user_and_alternates() -> None:
    with pytest.raises(RecordError, match="turn 0 is assistant, expected user"):
        Dialogue((Turn(Role.ASSISTANT, "hi"),))
    with pytest.raises(RecordError, match="turn 1 is user, expected assistant"):
        Dialogue((Turn(Role.USER, "a"), Turn(Role.USER, "b")))
    with pytest.raises(RecordError, match="at least one turn"):
        Dialogue(())


def test_followed_by_adds_the_turn_of_whoever_comes_next() -> None:
    prompt = Dialogue.from_texts("a", system="s")
    finished = prompt.followed_by("b")
    assert finished.turns[-1] == Turn(Role.ASSISTANT, "b")
    assert finished.system == "s"
    assert not finished.is_prompt
    assert finished.followed_by("c").is_prompt


def test_a_preference_survives_json() -> None:
    preference = a_preference()
    assert Preference.from_json(preference.to_json()) == preference
    unrated = a_preference(rating=None, safety_bin=None)
    assert Preference.from_json(unrated.to_json()) == unrated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference_id": ""}, "preference_id: must not be empty"),
        ({"dialogue_id": ""}, "dialogue_id: must not be empty"),
        ({"prompt": Dialogue.from_texts("a", "b")}, "prompt: the last turn of a prompt"),
    ],
)
def test_a_broken_preference_names_its_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        a_preference(**changes)


def test_an_unknown_rating_names_what_is_allowed() -> None:
    data = {**a_preference().to_json(), "rating": "banana"}
    with pytest.raises(RecordError, match="rating: 'banana' is not one of significantly_better"):
        Preference.from_json(data)
