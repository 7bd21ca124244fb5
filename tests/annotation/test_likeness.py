"""How alike texts are: by hand on short texts, and by frequency over many."""

import random

import pytest

from annotation.likeness import bands_of, likeness, normalised


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("How do I boil an egg?", "how do i  BOIL an egg", 1.0),
        # abcde, bcdef | bcdef, cdefg: one in common of three.
        ("abcdef", "bcdefg", 1 / 3),
        ("abcdef", "uvwxyz", 0.0),
        ("ab", "ab", 1.0),
        ("ab", "abc", 0.0),
        ("", "", 1.0),
        ("?!", "...", 1.0),
        ("", "abcdef", 0.0),
        ("ﬁve eggs", "five eggs", 1.0),  # a ligature is two letters
    ],
)
def test_likeness_is_the_share_of_pieces_in_common(one: str, other: str, expected: float) -> None:
    assert likeness(one, other) == pytest.approx(expected)
    assert likeness(other, one) == pytest.approx(expected)


def test_case_punctuation_and_spacing_do_not_count() -> None:
    assert normalised("  Hello,\tWORLD!! ") == "hello world"
    assert bands_of("Hello, world") == bands_of("hello world!")
    assert bands_of("?!") == []


def test_bands_fit_the_database_and_are_the_same_in_every_process() -> None:
    bands = bands_of("How do I boil an egg?")
    assert len(bands) == 9
    assert all(0 <= band < 2**63 for band in bands)
    assert bands == bands_of("How do I boil an egg?")


def test_texts_much_alike_share_a_band_and_others_do_not() -> None:
    stream = random.Random(7)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    num_found = num_alike = num_false = 0
    for _ in range(200):
        text = [stream.choice(words) for _ in range(40)]
        changed = list(text)
        changed[stream.randrange(40)] = stream.choice(words)
        one, other = " ".join(text), " ".join(changed)
        if likeness(one, other) < 0.8:
            continue
        num_alike += 1
        num_found += bool(set(bands_of(one)) & set(bands_of(other)))
        stranger = " ".join(stream.choice(words) for _ in range(40))
        num_false += bool(set(bands_of(one)) & set(bands_of(stranger)))
    assert num_alike > 150
    assert num_found / num_alike > 0.95
    assert num_false / num_alike < 0.2
