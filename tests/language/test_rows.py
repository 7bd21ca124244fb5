"""Rows padded into batches."""

import pytest

from language.rows import RowBatch, TokenRow, batches_by_length, pad_rows, rows_of


def test_rows_are_padded_on_the_right_with_masks_from_their_lengths() -> None:
    batch = pad_rows([TokenRow((5, 6), (7,)), TokenRow((8,), (9, 4, 2))], pad_id=0)

    assert batch.ids_BT.tolist() == [[5, 6, 7, 0], [8, 9, 4, 2]]
    assert batch.attention_mask_BT.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.response_mask_BT.tolist() == [[0, 0, 1, 0], [0, 1, 1, 1]]


def test_an_end_token_equal_to_the_padding_token_is_still_real() -> None:
    batch = pad_rows([TokenRow((5,), (6, 2)), TokenRow((5,), (6, 7, 8, 2))], pad_id=2)

    assert batch.attention_mask_BT.sum(dim=1).tolist() == [3, 5]
    assert batch.response_mask_BT.sum(dim=1).tolist() == [2, 4]


def test_a_row_may_lack_a_response_but_not_a_prompt() -> None:
    assert not pad_rows([TokenRow((5, 6), ())], pad_id=0).response_mask_BT.any()
    with pytest.raises(ValueError, match="every row needs a prompt"):
        pad_rows([TokenRow((), (5,))], pad_id=0)
    with pytest.raises(ValueError, match="at least one row"):
        pad_rows([], pad_id=0)


def test_rows_come_back_from_their_batch_whatever_padded_them() -> None:
    rows = [TokenRow((5, 6), (7, 2)), TokenRow((8,), (2,)), TokenRow((9, 2, 5), ())]

    right = pad_rows(rows, pad_id=2)
    left = RowBatch(*(part.flip(1) for part in pad_rows([TokenRow((2,), (8,))] * 2, pad_id=2)))

    assert rows_of(right) == rows
    assert rows_of(left) == [TokenRow((2,), (8,))] * 2


def test_batches_hold_like_lengths_and_every_index_once() -> None:
    batches = batches_by_length([30, 1, 29, 2, 3], rows_per_batch=2)

    assert batches == [[1, 3], [4, 2], [0]]


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows_per_batch: 0"):
        batches_by_length([1], rows_per_batch=0)
