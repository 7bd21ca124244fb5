"""What the sandbox's tokenizer and loaded tokenizers promise."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from language.chat import encode_prompt
from language.models import save_model
from language.templates import messages_of, save_tokenizer
from language.tokenizers import (
    NUM_RESERVED,
    load_tokenizer,
    pad_id_of,
    plain_ids,
    tokenizer_digest,
    train_tokenizer,
)
from records.chat_templates import BARE_CHAT_TEMPLATE, CHAT_TEMPLATE
from records.dialogues import Dialogue
from tests.language.texts import STRANGE
from tests.models import TEXTS, tiny_policy, tiny_tokenizer


def test_special_tokens_have_the_ids_of_llama_and_padding_the_next() -> None:
    tokenizer = tiny_tokenizer()

    ids = tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<pad>"])

    assert ids == [0, 1, 2, 3]
    assert tokenizer.bos_token_id == 1
    assert tokenizer.eos_token_id == 2
    assert pad_id_of(tokenizer) == 3


@pytest.mark.parametrize("text", STRANGE)
def test_every_text_comes_back_from_its_ids(text: str) -> None:
    tokenizer = tiny_tokenizer()

    # As in a chat, something stands before it: spaces at the very beginning are merged with the
    # one that the tokenizer puts there.
    assert tokenizer.decode(plain_ids(tokenizer, f"[INST]{text}")) == f"[INST]{text}"


@pytest.mark.parametrize("text", ["</s>", "<s>", "<unk>", "<pad>", "a</s>b <s>[INST]"])
def test_special_tokens_typed_as_text_stay_text(text: str) -> None:
    ids = plain_ids(tiny_tokenizer(), text)

    assert not {0, 1, 2, 3} & set(ids)


def test_each_digit_is_a_token_of_its_own() -> None:
    tokenizer = tiny_tokenizer()

    tokens = tokenizer.convert_ids_to_tokens(plain_ids(tokenizer, "42 and 1230"))

    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("421230")


def test_no_entry_goes_past_a_space_a_line_break_or_a_digit() -> None:
    for token in tiny_tokenizer().get_vocab():
        is_byte = token.startswith("<0x")
        assert "▁" not in token.lstrip("▁")
        assert is_byte or token == "\n" or "\n" not in token
        assert is_byte or len(token) == 1 or not any(c.isdigit() for c in token)


def test_the_tags_of_the_chat_format_are_short() -> None:
    tokenizer = tiny_tokenizer()

    assert tokenizer.convert_ids_to_tokens(plain_ids(tokenizer, "[INST]")) == ["▁[INST]"]
    assert tokenizer.convert_ids_to_tokens(plain_ids(tokenizer, "[/INST]")) == ["▁[/INST]"]


def test_equal_texts_give_equal_tokenizers_and_others_do_not() -> None:
    first = train_tokenizer(TEXTS, vocabulary_size=330)
    second = train_tokenizer(TEXTS, vocabulary_size=330)
    third = train_tokenizer(TEXTS[:3], vocabulary_size=330)

    assert tokenizer_digest(first) == tokenizer_digest(second)
    assert tokenizer_digest(first) != tokenizer_digest(third)


def test_characters_that_do_not_fit_fall_back_to_bytes() -> None:
    tokenizer = train_tokenizer(["aaaa bbb cc d"], vocabulary_size=NUM_RESERVED + 2)

    tokens = tokenizer.convert_ids_to_tokens(plain_ids(tokenizer, "ab"))

    assert tokens == ["▁", "a", "<0x62>"]


def test_a_vocabulary_without_room_for_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary_size: 260 must be more than 260"):
        train_tokenizer(TEXTS, vocabulary_size=260)


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path: Path) -> None:
    save_model(tiny_policy(), tiny_tokenizer(), tmp_path / "model")

    loaded = load_tokenizer(tmp_path / "model")

    assert tokenizer_digest(loaded) == tokenizer_digest(tiny_tokenizer())
    for text in STRANGE:
        assert plain_ids(loaded, text) == plain_ids(tiny_tokenizer(), text)


def test_padding_falls_back_to_the_end_token() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=300)
    tokenizer.pad_token = None

    assert pad_id_of(tokenizer) == 2


def test_a_sentencepiece_model_gives_sentencepiece_ids(sentencepiece_folder: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    oracle = sentencepiece.SentencePieceProcessor(
        model_file=str(sentencepiece_folder / "tokenizer.model")
    )
    tokenizer = load_tokenizer(sentencepiece_folder)

    for text in (*STRANGE, "a" + " " * 21 + "b", " " * 7, "▁meta▁ ", "the end</s>"):
        assert plain_ids(tokenizer, f"[INST]{text}") == oracle.encode(f"[INST]{text}")


def test_beside_a_tokenizer_json_it_is_still_what_decides(
    sentencepiece_folder: Path, tmp_path: Path
) -> None:
    exact = load_tokenizer(sentencepiece_folder)
    exact.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    # As conversions leave it: merges of spaces in another order.
    spaces = [merge for merge in content["model"]["merges"] if set("".join(merge)) == {"▁"}]
    others = [merge for merge in content["model"]["merges"] if set("".join(merge)) != {"▁"}]
    content["model"]["merges"] = [*others, *spaces[::-1]]
    path.write_text(json.dumps(content))
    text = "a" + " " * 21 + "b"
    assert plain_ids(load_tokenizer(tmp_path), text) != plain_ids(exact, text)

    shutil.copy(sentencepiece_folder / "tokenizer.model", tmp_path)

    assert tokenizer_digest(load_tokenizer(tmp_path)) == tokenizer_digest(exact)


def test_a_tokenizer_that_was_added_to_is_that_of_its_json(
    sentencepiece_folder: Path, tmp_path: Path
) -> None:
    added = load_tokenizer(sentencepiece_folder)
    added.add_special_tokens({"pad_token": "<pad>"})
    added.save_pretrained(tmp_path)
    shutil.copy(sentencepiece_folder / "tokenizer.model", tmp_path)

    assert pad_id_of(load_tokenizer(tmp_path)) == 32000


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, BARE_CHAT_TEMPLATE, "{{ messages }}", None])
def test_the_template_that_is_saved_gives_the_ids_of_the_chat_format(
    template: str | None, tmp_path: Path
) -> None:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template

    save_tokenizer(tokenizer, tmp_path)

    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain.chat_template == CHAT_TEMPLATE
    dialogue = Dialogue.from_texts("hello\n", "i  am fine", "12?", system="be kind")
    ids = plain.apply_chat_template(messages_of(dialogue), tokenize=True, return_dict=False)
    assert ids == encode_prompt(tokenizer, dialogue)


def test_a_sentencepiece_tokenizer_is_saved_with_a_template_that_fits(
    sentencepiece_folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(sentencepiece_folder)

    save_tokenizer(tokenizer, tmp_path)

    dialogue = Dialogue.from_texts("hello\n", "i  am fine", "12?", system="be kind")
    ids = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        messages_of(dialogue), tokenize=True, return_dict=False
    )
    assert ids == encode_prompt(tokenizer, dialogue)


def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0f\x01")

    with pytest.raises(ValueError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_a_sentencepiece_model_of_another_construction_is_refused(tmp_path: Path) -> None:
    unigram = bytes([0x12, 0x02, 0x18, 0x01])  # trainer_spec { model_type: UNIGRAM }
    (tmp_path / "tokenizer.model").write_bytes(unigram)

    with pytest.raises(ValueError, match=r"lacks \['model type BPE', 'byte fallback'"):
        load_tokenizer(tmp_path)
