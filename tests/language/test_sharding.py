"""What can be said of sharding with one process; `test_training.py` has two."""

import pytest
import torch

from language.precision import MixedWeights
from language.sharding import ShardedModel, compute_with, weights_of
from tests.models import tiny_policy


def test_one_process_trains_the_model_as_it_is() -> None:
    model = tiny_policy()
    weights = weights_of(model, torch.float32, torch.device("cpu"))
    assert isinstance(weights, MixedWeights)
    assert weights.working is model
    total = compute_with(weights.working, lambda policy: policy.lm_head.weight.sum())
    assert total == model.lm_head.weight.sum()


def test_a_model_that_shares_a_weight_is_not_cut() -> None:
    model = tiny_policy()
    model.lm_head.weight = model.model.embed_tokens.weight
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        ShardedModel(model, torch.float32, torch.device("cpu"))
