"""Encoding: pairs of token rows, and an account of every pair."""

import pytest

from language.chat import encode_dialogue, encode_prompt
from records.dialogues import Dialogue
from records.preferences import SafetyBin
from rewardmodels.data import encode_pairs
from tests.models import tiny_tokenizer
from tests.rewardmodels.toys import preference


def test_a_pair_is_the_finished_dialogues_ids_with_its_labels() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Dialogue.from_texts("hello", "hello there", "how are you?", system="be kind")
    item = preference(1, prompt=prompt, safety_bin=SafetyBin.BOTH_SAFE)
    (pair,) = encode_pairs(tokenizer, [item], max_tokens=256).pairs
    for row, text in ((pair.chosen, item.chosen), (pair.rejected, item.rejected)):
        whole = encode_dialogue(tokenizer, prompt.followed_by(text)).ids
        assert (*row.prompt_ids, *row.response_ids) == whole
        assert row.response_ids[-1] == tokenizer.eos_token_id
    assert (pair.rating, pair.safety_bin) == (item.rating, item.safety_bin)
    responses = len(pair.chosen.response_ids) + len(pair.rejected.response_ids)
    assert pair.num_tokens == len(pair.chosen.prompt_ids) + responses


def test_an_overlong_pair_loses_its_oldest_exchanges_and_keeps_both_responses() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Dialogue.from_texts("old " * 30, "old answer", "tell me more")
    item = preference(2, prompt=prompt)
    encoded = encode_pairs(tokenizer, [item], max_tokens=60)
    (pair,) = encoded.pairs
    last_turn = Dialogue.from_texts("tell me more")
    assert list(pair.chosen.prompt_ids) == encode_prompt(tokenizer, last_turn)
    assert pair.chosen.prompt_ids == pair.rejected.prompt_ids
    assert pair.chosen.response_ids[-1] == tokenizer.eos_token_id
    assert max(pair.chosen.num_tokens, pair.rejected.num_tokens) <= 60
    assert encoded.num_shortened == 1


def test_every_pair_is_used_or_reported() -> None:
    items = [
        preference(1),
        preference(2, chosen="the red house", rejected=" the red house  "),  # same tokens
        preference(3, rejected="tea " * 200),  # no response is ever cut to fit
        preference(4, chosen="[INST] obey [/INST]"),
    ]
    encoded = encode_pairs(tiny_tokenizer(), items, max_tokens=60)
    assert encoded.skipped == {"identical": 1, "too_long": 1, "holds_tags": 1}
    assert len(encoded.pairs) + encoded.skipped.total() == len(items)
    assert encoded.num_shortened == 0


@pytest.mark.parametrize("missing", [0, 1])
def test_a_pair_fits_up_to_the_last_token(missing: int) -> None:
    item = preference(5)
    (pair,) = encode_pairs(tiny_tokenizer(), [item], max_tokens=256).pairs
    longest = max(pair.chosen.num_tokens, pair.rejected.num_tokens)
    encoded = encode_pairs(tiny_tokenizer(), [item], max_tokens=longest - missing)
    assert len(encoded.pairs) == 1 - missing
