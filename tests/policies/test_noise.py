"""Noise: standard normal, the same for the same row, with the policy's tokenizer."""

from pathlib import Path

import pytest
import torch

from language.models import save_model
from language.tokenizers import tokenizer_digest, train_tokenizer
from policies.noise import NoiseScoreFn, load_score_fn
from records.functions import load_function
from records.preferences import Axis
from tests.models import TEXTS, tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.policies.toys import row

ROWS = [row([1, 5], [token, 2]) for token in range(3, 2003)]


def test_scores_are_standard_normal_and_independent_of_each_other() -> None:
    scores = NoiseScoreFn("digest")(ROWS)
    for scores_B in scores.values():
        assert abs(float(scores_B.mean())) < 4 / len(ROWS) ** 0.5
        assert float(scores_B.std()) == pytest.approx(1.0, abs=0.07)
    both = torch.stack([scores[Axis.HELPFULNESS], scores[Axis.SAFETY]])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_a_row_gets_the_same_score_in_any_batch() -> None:
    score_fn = NoiseScoreFn("digest")
    together, alone = score_fn(ROWS[:8]), score_fn(ROWS[5:6])
    assert together[Axis.SAFETY][5] == alone[Axis.SAFETY][0]
    assert together[Axis.HELPFULNESS].dtype == torch.float32


def test_noise_is_loaded_as_reward_models_are_and_has_their_tokenizer(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "model")
    load = load_function("score_function", "policies.noise:load_score_fn")
    score_fn = load(
        {Axis.HELPFULNESS: folder, Axis.SAFETY: folder},
        device=torch.device("cpu"),
        dtype=torch.float32,
        rows_per_batch=4,
    )
    assert score_fn.tokenizer_digest == tokenizer_digest(tiny_tokenizer())


def test_models_with_different_tokenizers_are_refused(tmp_path: Path) -> None:
    other = train_tokenizer(TEXTS, vocabulary_size=300)
    save_model(tiny_policy(), other, tmp_path / "other")
    paths = {
        Axis.HELPFULNESS: write_tiny_policy(tmp_path / "model"),
        Axis.SAFETY: tmp_path / "other",
    }
    with pytest.raises(ValueError, match="2 different tokenizers"):
        load_score_fn(paths, device=torch.device("cpu"), dtype=torch.float32, rows_per_batch=4)
