"""How alike two texts are, and how to find the like of a text without reading all the others.

Texts are normalised and cut into overlapping pieces of five characters; their likeness is the share
of pieces they have in common (Jaccard). MinHash (Broder 1997) keeps 32 minima of hashed pieces: two
texts agree in each with a probability equal to their likeness. Four of them make a band, so texts
that are 0.8 alike share one of eight bands in 98.5% of cases, at 0.3 in 6%. Bands are numbers in a
B-tree: finding candidates costs the same in a round of a million prompts as in one of ten, which
neither a trigram index (it reads all texts with a common trigram) nor a scan could say.
"""

import hashlib
import re
import unicodedata

import numpy as np

NEAR_DUPLICATE = 0.7
"""From this likeness on, two prompts ask nearly the same."""
NEAR_IDENTICAL = 0.9
"""From this likeness on, two responses cannot be told apart usefully."""
MAX_CHARACTERS = 4000
"""What lies beyond does not count."""
_PIECE = 5
_BANDS, _ROWS = 8, 4
_PRIME = np.uint64((1 << 31) - 1)
_numbers = np.random.default_rng(20230718)
_FACTORS = _numbers.integers(1, int(_PRIME), size=(_BANDS * _ROWS, 1), dtype=np.uint64)
_SHIFTS = _numbers.integers(0, int(_PRIME), size=(_BANDS * _ROWS, 1), dtype=np.uint64)


def normalised(text: str) -> str:
    """Return the text without what does not change its meaning: case, punctuation, spacing."""
    folded = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    return " ".join(re.findall(r"\w+", folded))


def likeness(one: str, other: str) -> float:
    """Return the share of pieces that two texts have in common, between 0 and 1."""
    first, second = _pieces(normalised(one)), _pieces(normalised(other))
    union = first | second
    return len(first & second) / len(union) if union else 1.0


def bands_of(text: str) -> list[int]:
    """Return nine numbers of 63 bits: one for the whole normalised text, and its eight bands.

    Equal texts share all, texts that are much alike at least one with high probability.
    """
    plain = normalised(text)
    pieces = _pieces(plain)
    if not pieces:
        return []
    hashes = np.array([_number(piece, 4) for piece in sorted(pieces)], dtype=np.uint64) % _PRIME
    minima = ((hashes * _FACTORS + _SHIFTS) % _PRIME).min(axis=1).reshape(_BANDS, _ROWS)
    bands = [_number(f"{index} {row.tolist()}", 8) for index, row in enumerate(minima)]
    return [_number(f"whole {plain}", 8), *bands]


def _pieces(plain: str) -> set[str]:
    if not plain:
        return set()
    return {plain[i : i + _PIECE] for i in range(max(1, len(plain) - _PIECE + 1))}


def _number(text: str, num_bytes: int) -> int:
    """Return a positive number that fits a signed integer of `num_bytes`."""
    digest = hashlib.blake2b(text.encode(), digest_size=num_bytes).digest()
    return int.from_bytes(digest, "big") >> 1
