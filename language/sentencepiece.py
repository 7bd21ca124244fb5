"""Reads Llama's `tokenizer.model` (SentencePiece BPE) as a fast tokenizer with the same ids.

Transformers' own conversion ranks merges by id. SentencePiece goes by score, and gives pieces of
spaces alone the lowest: the two differ wherever a text holds several spaces in a row.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from transformers import LlamaTokenizer

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers
_BPE = 2
_USER_DEFINED = 4


class _Piece(NamedTuple):
    text: str
    score: float
    kind: int


def read_sentencepiece(path: Path) -> LlamaTokenizer:
    """Return the tokenizer in a `tokenizer.model` file.

    Raises:
        ValueError: The model is not of Llama 2's construction: byte-pair encoding with byte
            fallback, a space before the text, no normalisation, no user-defined pieces.
    """
    pieces, trainer, normalizer = _parts(path.read_bytes())
    found = {
        "model type BPE": trainer.get(3, 1) == _BPE,
        "byte fallback": bool(trainer.get(35, 0)),
        "a dummy prefix": bool(normalizer.get(3, 1)),
        "no normalisation": not normalizer.get(2, b""),
        "spaces kept": not normalizer.get(4, 1),
        "no user-defined pieces": all(piece.kind != _USER_DEFINED for piece in pieces),
    }
    if lacking := [name for name, is_met in found.items() if not is_met]:
        raise ValueError(f"{path} is not built as Llama 2's tokenizer: it lacks {lacking}")
    names = [piece.text for piece in pieces]
    unk, bos, eos = (names[_index(trainer.get(f, f - 40))] for f in (40, 41, 42))
    return LlamaTokenizer(
        vocab={name: index for index, name in enumerate(names)},
        merges=_merges(pieces),
        unk_token=unk,
        bos_token=bos,
        eos_token=eos,
    )


def _merges(pieces: list[_Piece]) -> list[tuple[str, str]]:
    """Return pairs in order of priority: by the score of what they make.

    At equal scores SentencePiece merges at the left. Runs of spaces share one score, so there the
    leftmost run grows first: ranking the longer left part higher does that.
    """
    known = {piece.text for piece in pieces}
    ranked = [
        (-piece.score, -cut, piece.text[:cut], piece.text[cut:])
        for piece in pieces
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in known and piece.text[cut:] in known
    ]
    ranked.sort(key=lambda item: item[:2])
    return [(left, right) for _, _, left, right in ranked]


def _parts(data: bytes) -> tuple[list[_Piece], dict[int, int | bytes], dict[int, int | bytes]]:
    """Return the pieces, and the trainer's and normaliser's fields by number."""
    pieces, trainer, normalizer = [], {}, {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            fields = dict(_fields(value))
            text, score = fields[1], fields.get(2, b"\0\0\0\0")
            assert isinstance(text, bytes)
            assert isinstance(score, bytes)
            (number_score,) = struct.unpack("<f", score)
            pieces.append(_Piece(text.decode(), number_score, _index(fields.get(3, 1))))
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    return pieces, trainer, normalizer


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers and values of a protocol-buffer message: integers or raw bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            integer, position = _varint(data, position)
            yield number, integer
            continue
        if wire not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"not a SentencePiece model: wire type {wire} at byte {position}")
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            length, position = _varint(data, position)
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _index(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value
