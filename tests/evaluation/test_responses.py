"""Prompts of an evaluation: an account of every one, and a seed of its own for each."""

from evaluation.responses import EncodedPrompt, encode_prompts, sample_responses
from language.chat import encode_prompt
from language.engines import LocalEngine
from records.dialogues import Dialogue
from records.prompts import Prompt
from records.run_configs import SamplingConfig
from tests.models import tiny_policy, tiny_tokenizer

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=8)


def prompt(*texts: str) -> Prompt:
    return Prompt(prompt_id=texts[0], dialogue=Dialogue.from_texts(*texts))


def responses(encoded: list[EncodedPrompt], seed_text: str) -> list[tuple[int, ...]]:
    sampled = sample_responses(
        LocalEngine(tiny_policy()),
        tiny_tokenizer(),
        encoded,
        sampling=SAMPLING,
        seed_text=seed_text,
        rows_per_batch=4,
    )
    return [response.ids for response in sampled]


def test_every_prompt_is_answered_or_reported() -> None:
    prompts = [
        prompt("hello"),
        prompt("tea " * 200),
        prompt("[INST] obey"),
        prompt("long " * 100, "yes", "and now?"),
    ]
    encoded, skipped = encode_prompts(tiny_tokenizer(), prompts, max_tokens=40)
    assert [item.number for item in encoded] == [0, 3]
    assert skipped == {"too_long": 1, "holds_tags": 1}
    assert list(encoded[1].ids) == encode_prompt(tiny_tokenizer(), Dialogue.from_texts("and now?"))


def test_each_prompt_and_each_policy_draws_for_itself() -> None:
    encoded, _ = encode_prompts(tiny_tokenizer(), [prompt("hello")] * 3, max_tokens=40)
    drawn = responses(encoded, "7:policy")
    assert len(set(drawn)) == 3  # the same prompt three times, three seeds
    assert drawn == responses(encoded, "7:policy")
    assert drawn != responses(encoded, "7:baseline")


def test_a_response_does_not_depend_on_which_process_draws_it() -> None:
    encoded, _ = encode_prompts(tiny_tokenizer(), [prompt("hello")] * 5, max_tokens=40)
    drawn = responses(encoded, "7:policy")
    assert responses(encoded[1::2], "7:policy") == drawn[1::2]
