"""Tokenizers: trained for the sandbox in Llama 2's construction, or loaded from a model folder."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase

from language.hub import model_folder
from language.sentencepiece import read_sentencepiece
from records.digests import digest_bytes

UNK, BOS, EOS, PAD = "<unk>", "<s>", "</s>", "<pad>"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_SPACE = "▁"
# What merges may not cross: extra spaces; a word with the space before it; a digit; a line break.
_PIECES = rf"{_SPACE}+(?={_SPACE})|{_SPACE}[^{_SPACE}\d\n]*|\d|\n|[^{_SPACE}\d\n]+"
NUM_RESERVED = 4 + len(_BYTES)
"""Entries every trained tokenizer holds: four special tokens and one for each byte."""


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int) -> PreTrainedTokenizerBase:
    """Train byte-pair encoding on `texts` and return it as a Llama tokenizer.

    Built as Llama 2's: ids 0, 1, 2 are unknown, begin, end (3 is padding, which Llama 2 lacks);
    a space is part of the word after it and no merge crosses it; digits stand alone; what is
    outside the alphabet falls back to bytes; no normalisation. So every text round-trips, save that
    U+2581, the stand-in for a space, comes back as one. Equal texts give equal tokenizers.

    Raises:
        ValueError: `vocabulary_size` leaves no room for a single character.
    """
    num_characters = vocabulary_size - NUM_RESERVED
    if num_characters < 1:
        raise ValueError(f"vocabulary_size: {vocabulary_size} must be more than {NUM_RESERVED}")
    corpus = [text.replace(" ", _SPACE) for text in texts]
    counts = Counter(character for text in corpus for character in text)
    counts[_SPACE] += 1
    alphabet = sorted(counts, key=lambda character: (-counts[character], character))
    alphabet = alphabet[: max(1, num_characters)]
    tokenizer = Tokenizer(models.BPE(unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[UNK, BOS, EOS, PAD, *_BYTES],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    # The chat format's tags are in every prompt but seldom in the corpus: each text brings a pair.
    texts_with_tags = (f"{_SPACE}{text} [INST] [/INST]".replace(" ", _SPACE) for text in corpus)
    tokenizer.train_from_iterator(texts_with_tags, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return _configured(LlamaTokenizer(vocab=model["vocab"], merges=merges, pad_token=PAD))


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder or hub name; never runs remote code.

    Text is always plain text to it: `</s>` typed by a user does not become the end token. Where the
    folder has both files of Llama 2's, it gives the ids of `tokenizer.model`, which the model was
    trained on: those of `tokenizer.json` differ where spaces follow one another.

    Raises:
        FileNotFoundError: There is no such folder.
        HubError: It is a name on the hub, and the model cannot be had; says what to do.
        ValueError: There is `tokenizer.model` alone, and it is none of Llama 2's construction.
    """
    folder = model_folder(path)
    pieces = folder / "tokenizer.model"
    if pieces.exists() and not (folder / "tokenizer.json").exists():
        return _configured(read_sentencepiece(pieces))
    fast = _configured(AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False))
    return _of_pieces(fast, pieces) if pieces.exists() else fast


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of `text` and nothing else: no begin or end token, no special token parsed."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id rows are padded with: padding where there is one, else the end token.

    Nothing may be concluded from this id; masks say which positions are real.
    """
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_id_of(tokenizer)
    assert isinstance(pad_id, int)
    return pad_id


def bos_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id every turn begins with."""
    return _single_id("bos_token_id", tokenizer.bos_token_id)


def eos_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends a response."""
    return _single_id("eos_token_id", tokenizer.eos_token_id)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of all that decides how text becomes ids: equal digests, equal ids."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: backend[key] for key in ("added_tokens", "model", "normalizer", "pre_tokenizer")}
    kept["ids"] = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return digest_bytes(json.dumps(kept, sort_keys=True).encode())


def _of_pieces(fast: PreTrainedTokenizerBase, pieces: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of `tokenizer.model` where it is what `fast` was made from."""
    try:
        exact = _configured(read_sentencepiece(pieces))
    except ValueError:
        return fast  # another construction, which the other file alone describes
    if exact.get_vocab() != fast.get_vocab():
        return fast  # somebody has added to it since
    exact.chat_template = fast.chat_template
    exact.pad_token = fast.pad_token
    return exact


def _configured(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer.split_special_tokens = True
    return tokenizer


def _single_id(name: str, value: int | list[int] | None) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{name}: the tokenizer has {value!r}, one id is needed")
    return value
