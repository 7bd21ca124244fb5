"""What is left of a cache moves together."""

import pytest
import torch

from language.prompt_cache import moved_up


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4, 5], [0, 2, 5], [3], [1, 2, 3, 4, 5]])
def test_slices_move_side_by_side_in_their_own_memory(dim: int, places: list[int]) -> None:
    tensor = torch.randn(6, 6, 3, 2)[:, :, :, :1]
    expected = tensor.index_select(dim, torch.tensor(places))

    moved = moved_up(tensor, dim, places)

    assert torch.equal(moved, expected)
    assert moved.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("places", [[2, 1], [1, 1]])
def test_slices_that_are_not_ascending_are_refused(places: list[int]) -> None:
    with pytest.raises(AssertionError, match="before it is read"):
        moved_up(torch.randn(4, 2), 0, places)
