"""Differences of two versions of a text: by lines, and within changed lines by words."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

Change = Literal["same", "added", "removed"]

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(NamedTuple):
    """A run of words that is in both versions, or in one of them."""

    change: Change
    text: str


class Line(NamedTuple):
    """A line of the newer version, or one that only the older version has."""

    pieces: tuple[Piece, ...]

    @property
    def is_same(self) -> bool:
        """Whether both versions have it, word for word."""
        return all(piece.change == "same" for piece in self.pieces)


def differences(old: str, new: str) -> list[Line]:
    """Return the lines of both texts in order, each in pieces.

    The pieces that are not `added` make up `old`, those that are not `removed` make up `new`.
    """
    old_lines, new_lines = old.splitlines(), new.splitlines()
    matcher = SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    lines: list[Line] = []
    for tag, i, j, k, m in matcher.get_opcodes():
        before, after = old_lines[i:j], new_lines[k:m]
        if tag == "equal":
            lines += [Line((Piece("same", line),)) for line in after]
            continue
        for number in range(max(len(before), len(after))):
            if number >= len(before):
                lines.append(Line((Piece("added", after[number]),)))
            elif number >= len(after):
                lines.append(Line((Piece("removed", before[number]),)))
            else:
                lines.append(Line(tuple(_words(before[number], after[number]))))
    return lines


def _words(old: str, new: str) -> list[Piece]:
    one, two = _WORDS.findall(old), _WORDS.findall(new)
    pieces: list[Piece] = []
    for tag, i, j, k, m in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(one[i:j])))
            continue
        if i < j:
            pieces.append(Piece("removed", "".join(one[i:j])))
        if k < m:
            pieces.append(Piece("added", "".join(two[k:m])))
    return pieces
