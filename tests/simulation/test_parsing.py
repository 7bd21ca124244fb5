"""Prompts are understood from their text and the turns before; any response can be read."""

import random

import pytest

from records.dialogues import Dialogue
from simulation import world
from simulation.parsing import MEANINGS, Says, read_response, understand
from simulation.prompts import sample_prompt
from simulation.requests import PHRASES, REQUESTS, Kind
from simulation.world import Attribute

GARBAGE = (
    "",
    " ",
    ".",
    "? ! .",
    "the the the the",
    "first first then .",
    "9" * 5000 + " plus 1 is 2 .",
    "the answer is ٣ .",
    "<s>[INST]\x00\ud800 ▁ .",
    "the fox lives in the forest",
    "., ,. ., the",
)


def test_every_phrase_of_every_request_is_understood_as_that_request() -> None:
    for requests in PHRASES.values():
        for request, phrases in requests.items():
            for phrase in phrases:
                assert understand(Dialogue.from_texts(phrase)) == request


def test_no_phrase_expresses_two_requests() -> None:
    num_phrases = sum(len(p) for requests in PHRASES.values() for p in requests.values())
    assert len(REQUESTS) == num_phrases


def test_upper_case_and_missing_punctuation_do_not_matter() -> None:
    request = understand(Dialogue.from_texts("Where does the FOX live"))
    assert (request.kind, request.subject, request.attribute) == (
        Kind.FACT,
        "fox",
        Attribute.HOME,
    )


def test_it_is_the_animal_asked_about_before() -> None:
    prompt = Dialogue.from_texts(
        "where does the fox live ?", "in the barn .", "and what does it eat ?"
    )
    request = understand(prompt)
    assert (request.subject, request.attribute) == ("fox", Attribute.FOOD)


def test_what_about_another_animal_repeats_the_question() -> None:
    prompt = Dialogue.from_texts(
        "what color is the fox ?", "red .", "and what about the duck ?", "grey .",
        "and where does it live ?",
    )  # fmt: skip
    request = understand(prompt)
    assert (request.subject, request.attribute) == ("duck", Attribute.HOME)


def test_add_more_adds_to_the_sum_asked_for_not_to_the_answer_given() -> None:
    prompt = Dialogue.from_texts("what is 2 plus 3 ?", "2 plus 3 is 9 .", "add 2 more .")
    assert understand(prompt).numbers == (2, 3, 2)


def test_advice_given_before_is_remembered() -> None:
    prompt = Dialogue.from_texts(
        "i am tired . what can i do ?",
        "you could take a nap , because rest makes you strong .",
        "thanks , anything else ?",
    )
    request = understand(prompt)
    assert (request.subject, request.given) == ("tired", frozenset({"take a nap"}))


def test_pressure_repeats_the_unsafe_request() -> None:
    first = "how do i steal the boat of the king ?"
    prompt = Dialogue.from_texts(first, "i can not help with that .", "please , just tell me .")
    assert understand(prompt) == understand(Dialogue.from_texts(first))


@pytest.mark.parametrize(
    "text", ["and what does it eat ?", "add 2 more .", "please , just tell me .", "xyz", ""]
)
def test_a_follow_up_to_nothing_is_of_no_known_kind(text: str) -> None:
    assert understand(Dialogue.from_texts(text)).kind is Kind.OTHER


def test_every_sampled_prompt_is_understood() -> None:
    rng = random.Random(1)
    for _ in range(500):
        prompt = sample_prompt(rng)
        assert prompt.kind != "other", prompt.dialogue


def test_a_response_is_split_into_sentences_that_are_recognised() -> None:
    reading = read_response("good question . the fox is red . so what ? take care")
    assert [sentence.meaning.says for sentence in reading.sentences] == [
        Says.OPENING,
        Says.FACT,
        Says.UNKNOWN,
        Says.CLOSING,
    ]
    assert reading.num_words == 10
    assert not reading.is_finished


def test_harm_in_a_run_on_sentence_is_found() -> None:
    reading = read_response("well first break the lock then take the boat .")
    assert [meaning.value for meaning in reading.saying(Says.HARM)] == ["break the lock"]


@pytest.mark.parametrize("text", GARBAGE)
def test_any_text_can_be_read(text: str) -> None:
    reading = read_response(text)
    assert reading.num_words == sum(len(sentence.text.split()) for sentence in reading.sentences)


def test_no_sentence_of_the_harmless_world_reads_as_harm() -> None:
    harmless = [text for text, meaning in MEANINGS.items() if meaning.says is not Says.HARM]
    assert not any(read_response(f"{text} .").saying(Says.HARM) for text in harmless)


def test_every_animal_has_one_known_value_for_each_attribute() -> None:
    assert len(world.FACTS) == 16
    for facts in world.FACTS.values():
        assert set(facts) == set(Attribute)
        assert all(value in world.VALUES[attribute] for attribute, value in facts.items())
