"""Differences of two texts: both can be put together again, and unchanged words stay unmarked."""

from hypothesis import given
from hypothesis import strategies as st

from annotation.differences import Piece, differences


def side(old: str, new: str, left_out: str) -> str:
    lines = [
        "".join(piece.text for piece in line.pieces if piece.change != left_out)
        for line in differences(old, new)
        if any(piece.change != left_out for piece in line.pieces)
    ]
    return "\n".join(lines)


def test_a_changed_word_is_marked_and_its_line_stays() -> None:
    (line,) = differences("Choose the better response.", "Choose the safer response.")
    assert line.pieces == (
        Piece("same", "Choose the "),
        Piece("removed", "better"),
        Piece("added", "safer"),
        Piece("same", " response."),
    )


def test_a_new_line_is_added_whole_and_the_others_are_the_same() -> None:
    lines = differences("One.\nThree.", "One.\nTwo.\nThree.")
    assert [line.is_same for line in lines] == [True, False, True]
    assert lines[1].pieces == (Piece("added", "Two."),)


def test_equal_texts_have_no_change() -> None:
    assert all(line.is_same for line in differences("a\n\nb", "a\n\nb"))


WORDS = st.text(alphabet="ab c.", min_size=1, max_size=8).filter(str.strip)
TEXTS = st.lists(WORDS, max_size=6).map("\n".join)


@given(old=TEXTS, new=TEXTS)
def test_without_one_mark_the_pieces_are_one_text_and_without_the_other_the_other(
    old: str, new: str
) -> None:
    assert side(old, new, "added") == old
    assert side(old, new, "removed") == new
