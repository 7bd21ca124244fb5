"""The monitor: the input `general` scores rows, or says why it cannot."""

from pathlib import Path

import pytest
import torch

from language.models import create_policy, save_model
from language.monitors import Monitor, load_monitor
from language.rows import TokenRow
from language.scalars import create_scalar_model, load_scalar_model, row_scalars
from language.tokenizers import train_tokenizer
from records.run_configs import ModelShape
from tests.models import TEXTS, tiny_tokenizer, write_tiny_policy

ROWS = [
    TokenRow((1, 5, 9), (7, 2)),
    TokenRow((1, 5, 9, 11, 12), (8, 8, 8, 2)),
    TokenRow((1, 5, 9), (30, 31, 32, 33, 34, 2)),
]


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitors")
    policy = write_tiny_policy(folder / "policy")
    save_model(create_scalar_model(policy, seed=4), tiny_tokenizer(), folder / "general")
    return folder / "general"


def loaded(inputs: dict[str, Path]) -> Monitor | None:
    return load_monitor(
        inputs,
        tiny_tokenizer(),
        device=torch.device("cpu"),
        dtype=torch.float32,
        rows_per_batch=2,
    )


def test_scores_are_those_of_each_row_alone_in_the_order_given(general: Path) -> None:
    monitor = loaded({"general": general, "helpfulness": general})
    assert monitor is not None
    model = load_scalar_model(general)
    with torch.no_grad():
        alone_B = torch.cat([row_scalars(model, [row]) for row in ROWS])
    torch.testing.assert_close(monitor(ROWS), alone_B, atol=1e-5, rtol=0.0)


def test_a_run_without_the_input_has_no_monitor(general: Path) -> None:
    assert loaded({"helpfulness": general}) is None


def test_a_monitor_that_reads_other_token_ids_is_refused(tmp_path: Path) -> None:
    other = train_tokenizer(TEXTS, vocabulary_size=300)
    save_model(create_policy(ModelShape(), other, seed=0), other, tmp_path / "policy")
    save_model(create_scalar_model(tmp_path / "policy", seed=0), other, tmp_path / "general")
    with pytest.raises(ValueError, match="general: its tokenizer"):
        loaded({"general": tmp_path / "general"})


def test_a_score_that_is_not_finite_ends_the_run(general: Path, tmp_path: Path) -> None:
    model = load_scalar_model(general)
    model.score.weight.data.fill_(float("nan"))
    save_model(model, tiny_tokenizer(), tmp_path / "broken")
    monitor = loaded({"general": tmp_path / "broken"})
    assert monitor is not None
    with pytest.raises(FloatingPointError, match="general reward model"):
        monitor(ROWS)
