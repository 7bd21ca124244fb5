"""The chat format, id by id."""

import random
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from language.chat import (
    TAGS,
    EncodedDialogue,
    TagInjectionError,
    decode_response,
    encode_dialogue,
    encode_prompt,
    encode_response,
    fit_prompt,
)
from language.tokenizers import load_tokenizer, plain_ids, train_tokenizer
from records.dialogues import Dialogue
from tests.language.texts import STRANGE
from tests.models import TEXTS, tiny_tokenizer

BOS, EOS = 1, 2


def as_meta_encodes(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> list[int]:
    """Encode as the reference code does: each exchange as one string."""
    texts = [turn.text for turn in dialogue.turns]
    if dialogue.system:
        texts[0] = f"<<SYS>>\n{dialogue.system}\n<</SYS>>\n\n{texts[0]}"
    ids: list[int] = []
    for i in range(0, len(texts) - 1, 2):
        text = f"[INST] {texts[i].strip()} [/INST] {texts[i + 1].strip()} "
        ids += [BOS, *plain_ids(tokenizer, text), EOS]
    if dialogue.is_prompt:
        ids += [BOS, *plain_ids(tokenizer, f"[INST] {texts[-1].strip()} [/INST]")]
    return ids


def strange_dialogues(num: int, *, is_prompt: bool) -> list[Dialogue]:
    """Return dialogues whose every message is made of strange texts."""
    rng = random.Random(7)
    dialogues = []
    for _ in range(num):
        texts = [
            rng.choice(STRANGE) + " " * rng.randrange(4) + rng.choice(STRANGE)
            for _ in range(2 * rng.randrange(1, 4) - is_prompt)
        ]
        system = rng.choice(["", "be kind", rng.choice(STRANGE)])
        dialogues.append(Dialogue.from_texts(*texts, system=system))
    return dialogues


def test_a_finished_exchange_is_begin_text_with_trailing_space_end() -> None:
    tokenizer = tiny_tokenizer()

    encoded = encode_dialogue(tokenizer, Dialogue.from_texts(" hello ", " i am fine\n"))

    expected = [BOS, *plain_ids(tokenizer, "[INST] hello [/INST] i am fine "), EOS]
    assert list(encoded.ids) == expected
    assert tokenizer.convert_ids_to_tokens(list(encoded.ids))[-2:] == ["▁", "</s>"]


def test_the_system_prompt_is_part_of_the_first_user_turn_only() -> None:
    tokenizer = tiny_tokenizer()
    dialogue = Dialogue.from_texts("one", "two", "three", system="be kind")

    ids = encode_prompt(tokenizer, dialogue)

    first = "[INST] <<SYS>>\nbe kind\n<</SYS>>\n\none [/INST] two "
    second = "[INST] three [/INST]"
    assert ids == [
        *(BOS, *plain_ids(tokenizer, first), EOS),
        *(BOS, *plain_ids(tokenizer, second)),
    ]


def test_every_turn_has_one_begin_and_every_finished_turn_one_end() -> None:
    dialogue = Dialogue.from_texts("one", "two", "three", "four", "five")

    ids = encode_prompt(tiny_tokenizer(), dialogue)

    assert ids.count(BOS) == 3
    assert ids.count(EOS) == 2
    assert ids[1] != BOS


def test_ids_equal_the_reference_encoding_of_strange_texts() -> None:
    tokenizer = tiny_tokenizer()
    for dialogue in strange_dialogues(200, is_prompt=False):
        assert list(encode_dialogue(tokenizer, dialogue).ids) == as_meta_encodes(
            tokenizer, dialogue
        )
    for dialogue in strange_dialogues(200, is_prompt=True):
        assert encode_prompt(tokenizer, dialogue) == as_meta_encodes(tokenizer, dialogue)


def test_ids_equal_those_of_sentencepiece_for_a_real_vocabulary(
    sentencepiece_folder: Path,
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    oracle = sentencepiece.SentencePieceProcessor(
        model_file=str(sentencepiece_folder / "tokenizer.model")
    )
    tokenizer = load_tokenizer(sentencepiece_folder)
    for dialogue in strange_dialogues(300, is_prompt=False):
        texts = [turn.text for turn in dialogue.turns]
        if dialogue.system:
            texts[0] = f"<<SYS>>\n{dialogue.system}\n<</SYS>>\n\n{texts[0]}"
        expected = []
        for user, answer in zip(texts[::2], texts[1::2], strict=True):
            text = f"[INST] {user.strip()} [/INST] {answer.strip()} "
            expected += [BOS, *oracle.encode(text), EOS]
        assert list(encode_dialogue(tokenizer, dialogue).ids) == expected


def test_prompt_ids_and_response_ids_make_the_dialogue_ids() -> None:
    tokenizer = tiny_tokenizer()
    for dialogue in strange_dialogues(200, is_prompt=False):
        prompt = Dialogue(dialogue.turns[:-1], system=dialogue.system)

        joined = [
            *encode_prompt(tokenizer, prompt),
            *encode_response(tokenizer, dialogue.turns[-1].text),
        ]

        assert joined == list(encode_dialogue(tokenizer, dialogue).ids)


@pytest.mark.parametrize("text", STRANGE)
def test_a_response_comes_back_from_its_ids(text: str) -> None:
    tokenizer = tiny_tokenizer()

    back = decode_response(tokenizer, encode_response(tokenizer, text))
    assert back == text.replace("\0", "\ufffd").strip()


def test_no_response_holds_a_null_character_which_no_database_stores() -> None:
    tokenizer = tiny_tokenizer()
    ids = encode_response(tokenizer, "so\0it is")
    assert tokenizer.convert_tokens_to_ids("<0x00>") in ids
    assert decode_response(tokenizer, ids) == "so\ufffdit is"


def test_a_response_ends_with_the_end_token_once() -> None:
    ids = encode_response(tiny_tokenizer(), "the sum is 42.")

    assert ids[-1] == EOS
    assert ids.count(EOS) == 1
    assert BOS not in ids


def test_the_mask_covers_every_assistant_token_with_its_end_and_nothing_else() -> None:
    tokenizer = tiny_tokenizer()
    dialogue = Dialogue.from_texts("one", "two", "three", "four", system="be kind")

    encoded = encode_dialogue(tokenizer, dialogue)

    spoken = [i for i, flag in zip(*encoded, strict=True) if flag]
    assert spoken == [*encode_response(tokenizer, "two"), *encode_response(tokenizer, "four")]
    assert isinstance(encoded, EncodedDialogue)


def test_the_end_token_stays_in_the_mask_when_it_is_the_padding_token() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=300)
    tokenizer.pad_token = tokenizer.eos_token

    encoded = encode_dialogue(tokenizer, Dialogue.from_texts("one", "two"))

    assert encoded.ids[-1] == EOS == tokenizer.pad_token_id
    assert encoded.response_mask[-1]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("place", ["system", "user", "assistant"])
def test_a_message_with_a_tag_is_refused(tag: str, place: str) -> None:
    texts = {"system": "be kind", "user": "hello", "assistant": "hi", place: f"a {tag} b"}
    dialogue = Dialogue.from_texts(
        texts["user"], texts["assistant"], "more", system=texts["system"]
    )

    with pytest.raises(TagInjectionError, match="must not hold") as error:
        encode_prompt(tiny_tokenizer(), dialogue)

    assert error.value.tag == tag


def test_a_prompt_must_wait_for_a_response_and_a_dialogue_must_not() -> None:
    with pytest.raises(ValueError, match="the last turn of a prompt is the user's"):
        encode_prompt(tiny_tokenizer(), Dialogue.from_texts("one", "two"))
    with pytest.raises(ValueError, match="ends with the assistant's turn"):
        encode_dialogue(tiny_tokenizer(), Dialogue.from_texts("one"))


def test_a_prompt_that_is_too_long_loses_its_oldest_exchanges_but_not_the_system_prompt() -> None:
    tokenizer = tiny_tokenizer()
    whole = Dialogue.from_texts("one", "two", "three", "four", "five", system="be kind")
    shorter = Dialogue.from_texts("three", "four", "five", system="be kind")
    shortest = Dialogue.from_texts("five", system="be kind")
    lengths = [len(encode_prompt(tokenizer, d)) for d in (whole, shorter, shortest)]

    assert fit_prompt(tokenizer, whole, lengths[0]) == encode_prompt(tokenizer, whole)
    assert fit_prompt(tokenizer, whole, lengths[0] - 1) == encode_prompt(tokenizer, shorter)
    assert fit_prompt(tokenizer, whole, lengths[1] - 1) == encode_prompt(tokenizer, shortest)
    assert fit_prompt(tokenizer, whole, lengths[2] - 1) is None


def test_a_tokenizer_that_merges_prompt_and_response_is_refused() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=300)
    backend = tokenizer.backend_tokenizer
    vocab = {"▁": 3, "]": 4, "]▁": 5, **{c: i for i, c in enumerate("[/INSTa", 6)}}
    specials = {"<unk>": 0, "<s>": 1, "</s>": 2}
    backend.model = type(backend.model)({**specials, **vocab}, [("]", "▁")])

    with pytest.raises(ValueError, match="use a tokenizer of Llama 2's construction"):
        encode_response(tokenizer, "a")
