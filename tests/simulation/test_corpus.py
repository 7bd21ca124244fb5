"""Corpus, demonstrations and prompts are deterministic, diverse, and middling on purpose."""

import random
from itertools import islice

import pytest

from records.dialogues import Dialogue
from simulation.corpus import sample_corpus, sample_demonstrations, sample_prompts
from simulation.grammar import Quality, sample_request, write_response
from simulation.parsing import Says, read_response, understand
from simulation.prompts import sample_follow_up, sample_prompt
from simulation.reactions import reaction_to, with_reactions
from simulation.requests import Kind
from simulation.utilities import helpfulness, is_violation


def exchanges(dialogue: Dialogue) -> list[tuple[Dialogue, str]]:
    """Return prompts and responses, the leave-taking at the end left out."""
    turns = dialogue.turns[:-2]
    return [(Dialogue(turns[:i]), turns[i].text) for i in range(1, len(turns), 2)]


def test_equal_seeds_give_equal_streams_and_others_do_not() -> None:
    assert list(sample_corpus(4, 50)) == list(sample_corpus(4, 50))
    assert list(sample_corpus(4, 50)) != list(sample_corpus(5, 50))
    assert list(sample_demonstrations(4, 50)) == list(sample_demonstrations(4, 50))
    assert list(sample_prompts(4, 50, 0.3)) == list(sample_prompts(4, 50, 0.3))


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    assert list(islice(sample_corpus(4, 50), 20)) == list(sample_corpus(4, 20))


def test_the_corpus_is_finished_dialogues_of_one_to_three_exchanges_and_a_leave_taking() -> None:
    dialogues = list(sample_corpus(0, 300))
    assert not any(dialogue.is_prompt for dialogue in dialogues)
    assert {len(dialogue.turns) for dialogue in dialogues} == {4, 6, 8}
    assert {dialogue.turns[-1].text for dialogue in dialogues} == {"you are welcome ."}


@pytest.mark.parametrize(
    ("response", "reaction"),
    [
        ("good question . the fox lives in the forest . take care .", "wonderful , thank you ."),
        ("the fox lives in the forest .", "hm , okay ."),
        ("the fox lives in the barn .", "not quite ."),
        ("i can not help with that .", "no , that is bad ."),
    ],
)
def test_users_react_to_what_a_response_is_worth(response: str, reaction: str) -> None:
    assert reaction_to(Dialogue.from_texts("where does the fox live ?"), response) == reaction


def test_a_reaction_opens_the_next_turn_and_hides_no_request() -> None:
    dialogue = with_reactions(
        Dialogue.from_texts(
            "where does the fox live ?",
            "it lives in the barn .",
            "and what does it eat ?",
            "it eats meat . take care .",
        )
    )
    texts = [turn.text for turn in dialogue.turns]
    assert texts[2] == "not quite . and what does it eat ?"
    assert texts[4:] == ["thanks .", "you are welcome ."]
    assert understand(Dialogue(dialogue.turns[:3])).attribute == "food"


def test_the_language_is_small_and_its_tokens_are_separated_by_one_space() -> None:
    texts = [turn.text for dialogue in sample_corpus(0, 3000) for turn in dialogue.turns]
    words = {word for text in texts for word in text.split(" ")}
    assert 250 <= len(words) <= 350
    assert all(word.isalnum() or word in {".", ",", "?"} for word in words)
    assert all(text == text.lower() for text in texts)


def test_every_sentence_the_grammar_writes_is_recognised() -> None:
    for dialogue in sample_corpus(0, 500):
        for _, response in exchanges(dialogue):
            reading = read_response(response)
            assert reading.is_finished
            assert all(s.meaning.says is not Says.UNKNOWN for s in reading.sentences), response


def test_the_corpus_is_middling() -> None:
    pairs = [pair for dialogue in sample_corpus(0, 2000) for pair in exchanges(dialogue)]
    harmless = [(p, r) for p, r in pairs if not understand(p).is_unsafe]
    unsafe = [(p, r) for p, r in pairs if understand(p).is_unsafe]
    violations = sum(is_violation(p, r) for p, r in unsafe) / len(unsafe)
    refusals = sum(bool(read_response(r).saying(Says.REFUSAL)) for _, r in harmless)
    facts = [helpfulness(p, r) for p, r in harmless if understand(p).kind is Kind.FACT]
    assert violations == pytest.approx(0.52, abs=0.04)
    assert refusals / len(harmless) == pytest.approx(0.06, abs=0.02)
    assert sum(value > 0 for value in facts) / len(facts) == pytest.approx(0.5, abs=0.06)


def test_demonstrations_are_better_than_the_corpus_and_not_yet_good() -> None:
    demonstrations = list(sample_demonstrations(0, 1500))
    shown = [helpfulness(d.prompt, d.response) for d in demonstrations]
    corpus = [
        helpfulness(prompt, response)
        for dialogue in sample_corpus(0, 1500)
        for prompt, response in exchanges(dialogue)
    ]
    assert sum(shown) / len(shown) > sum(corpus) / len(corpus) + 0.1
    unsafe = [d for d in demonstrations if understand(d.prompt).is_unsafe]
    violations = sum(is_violation(d.prompt, d.response) for d in unsafe)
    assert 0.3 < violations / len(unsafe) < 0.45


def test_prompts_have_unique_ids_and_the_share_of_unsafe_ones_asked_for() -> None:
    prompts = [*sample_prompts(0, 600, 0.4), *sample_prompts(1, 600, 0.4)]
    assert len({prompt.prompt_id for prompt in prompts}) == 1200
    assert sum(prompt.is_safety for prompt in prompts) / 1200 == pytest.approx(0.4, abs=0.05)
    assert all(p.is_safety == understand(p.dialogue).is_unsafe for p in prompts)
    assert not any(prompt.is_safety for prompt in sample_prompts(0, 100, 0.0))
    num_multi_turn = sum(len(prompt.dialogue.turns) > 1 for prompt in prompts)
    assert num_multi_turn / 1200 == pytest.approx(0.4, abs=0.05)


def test_a_share_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"safety_share is 1\.5"):
        list(sample_prompts(0, 1, 1.5))


def test_prompts_are_of_every_kind_and_every_risk() -> None:
    rng = random.Random(0)
    prompts = [sample_prompt(rng) for _ in range(800)]
    assert {prompt.kind for prompt in prompts} == {
        "fact", "about", "sum", "task", "borderline", "step", "advice", "small_talk", "unsafe",
    }  # fmt: skip
    assert {prompt.risk_category for prompt in prompts} == {
        None, "illicit_and_criminal", "hateful_and_harmful", "unqualified_advice",
    }  # fmt: skip


def test_the_sampled_prompt_is_unsafe_as_asked() -> None:
    rng = random.Random(0)
    assert all(sample_prompt(rng, is_safety=True).is_safety for _ in range(50))
    assert not any(sample_prompt(rng, is_safety=False).is_safety for _ in range(50))


def test_a_follow_up_depends_on_the_dialogue() -> None:
    dialogue = Dialogue.from_texts("what is 2 plus 3 ?", "2 plus 3 is 5 .")
    rng = random.Random(0)
    follow_ups = [sample_follow_up(rng, dialogue) for _ in range(60)]
    more = [text for text in follow_ups if text.startswith("add ")]
    assert 25 <= len(more) <= 55  # 70% depend on the sum
    assert all(understand(dialogue.followed_by(text)).kind is not Kind.OTHER for text in follow_ups)


def test_a_follow_up_needs_a_response_before_it() -> None:
    with pytest.raises(ValueError, match="ends with the user"):
        sample_follow_up(random.Random(0), Dialogue.from_texts("good morning ."))


def test_without_noise_in_its_quality_the_grammar_writes_the_best_response() -> None:
    perfect = Quality(
        correct=1.0,
        complete=1.0,
        polite=1.0,
        rambling=0.0,
        repeating=0.0,
        unsure=0.0,
        false_refusal=0.0,
        complying=0.0,
        complying_after_refusal=0.0,
        reasoned=1.0,
        alternative=1.0,
    )
    rng = random.Random(0)
    for _ in range(300):
        prompt = sample_prompt(rng).dialogue
        response = write_response(rng, understand(prompt), perfect)
        assert not is_violation(prompt, response)
        if not understand(prompt).is_unsafe:
            assert helpfulness(prompt, response) > 1.0, (prompt, response)


def test_requests_can_be_drawn_unsafe_or_harmless() -> None:
    rng = random.Random(0)
    assert all(sample_request(rng, is_safety=True).is_unsafe for _ in range(20))
    assert not any(sample_request(rng, is_safety=False).is_unsafe for _ in range(20))
