"""Scalar models: where scores are read, and that the head is kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.models import save_model
from language.rows import TokenRow, pad_rows
from language.scalars import create_scalar_model, last_scalars, load_scalar_model, token_scalars
from tests.models import tiny_tokenizer, write_tiny_policy

EOS = 2


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture(scope="module")
def model(policy_folder: Path) -> LlamaForSequenceClassification:
    return create_scalar_model(policy_folder, seed=3)


def score(
    model: LlamaForSequenceClassification, *rows: tuple[int, ...], pad_id: int = EOS
) -> Tensor:
    """Score rows as one batch padded with the end token."""
    batch = pad_rows([TokenRow(row, ()) for row in rows], pad_id=pad_id)
    with torch.no_grad():
        scalars_BT = token_scalars(model, batch.ids_BT, batch.attention_mask_BT)
    return last_scalars(scalars_BT, batch.attention_mask_BT)


def test_the_head_is_drawn_with_the_scale_of_the_paper(policy_folder: Path) -> None:
    weights = torch.cat(
        [create_scalar_model(policy_folder, seed=s).score.weight.detach() for s in range(12)]
    )

    assert weights.mean().abs() < 0.03
    assert weights.std() == pytest.approx(33**-0.5, rel=0.1)  # D = 32, 384 weights


def test_the_head_depends_on_the_seed_alone(policy_folder: Path) -> None:
    first = create_scalar_model(policy_folder, seed=1).score.weight
    torch.rand(3)
    second = create_scalar_model(policy_folder, seed=1).score.weight

    assert torch.equal(first, second)


def test_an_end_token_changes_the_score_though_it_is_the_padding_token(
    model: LlamaForSequenceClassification,
) -> None:
    with_end, without = score(model, (1, 20, 30, EOS), (1, 20, 30))

    assert (with_end - without).abs() > 1e-4


def test_end_tokens_inside_the_prompt_do_not_end_the_row(
    model: LlamaForSequenceClassification,
) -> None:
    shared = (1, 20, EOS, 1, 30)

    chosen, rejected = score(model, (*shared, 40, EOS), (*shared, 50, EOS))

    assert (chosen - rejected).abs() > 1e-4


def test_a_score_does_not_depend_on_the_rows_beside_it(
    model: LlamaForSequenceClassification,
) -> None:
    rows = [(1, *range(20, 20 + n), EOS) for n in (1, 9, 3, 30, 17, 2, 5, 8)]

    together = score(model, *rows)
    alone = torch.cat([score(model, row) for row in rows])
    shuffled = score(model, *reversed(rows)).flip(0)

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together, shuffled, atol=1e-6, rtol=0)


def test_the_last_scalar_is_at_the_last_real_token() -> None:
    position_BT = torch.arange(6.0).expand(4, 6)
    right = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    left = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]], dtype=torch.bool)

    last_B = last_scalars(position_BT, torch.cat([right, left]))

    assert last_B.tolist() == [2.0, 5.0, 5.0, 4.0]


def test_a_row_without_tokens_has_no_score() -> None:
    with pytest.raises(AssertionError, match="without a real token"):
        last_scalars(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))


def test_padding_on_the_left_changes_nothing(model: LlamaForSequenceClassification) -> None:
    ids, pad = [1, 20, 30, 40], [EOS] * 5
    with torch.no_grad():
        alone = token_scalars(model, torch.tensor([ids]), torch.ones(1, 4, dtype=torch.bool))
        padded = token_scalars(
            model, torch.tensor([pad + ids]), torch.tensor([[False] * 5 + [True] * 4])
        )

    torch.testing.assert_close(padded[:, 5:], alone, atol=1e-6, rtol=0)


def test_dropout_is_off_in_scalar_models(policy_folder: Path) -> None:
    model = create_scalar_model(policy_folder, seed=0).train()

    assert torch.equal(score(model, (1, 20, 30)), score(model, (1, 20, 30)))


def test_scores_are_equal_after_saving_and_loading(
    model: LlamaForSequenceClassification, tmp_path: Path
) -> None:
    save_model(model, tiny_tokenizer(), tmp_path / "reward")

    loaded = load_scalar_model(tmp_path / "reward")

    assert torch.equal(score(loaded, (1, 20, 30)), score(model, (1, 20, 30)))


def test_a_saved_head_is_read_by_transformers_itself(
    model: LlamaForSequenceClassification, tmp_path: Path
) -> None:
    save_model(model, tiny_tokenizer(), tmp_path / "reward")

    theirs = LlamaForSequenceClassification.from_pretrained(tmp_path / "reward")
    with torch.no_grad():
        logits = theirs(torch.tensor([[1, 20, 30]])).logits

    torch.testing.assert_close(logits[:, 0], score(model, (1, 20, 30)), atol=1e-6, rtol=0)


def test_a_policy_is_not_taken_for_a_scalar_model(policy_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has no weights for score\.weight"):
        load_scalar_model(policy_folder)


def test_scores_of_a_bfloat16_model_are_not_rounded_to_bfloat16(policy_folder: Path) -> None:
    model = create_scalar_model(policy_folder, seed=0, dtype=torch.bfloat16)

    scores_B = score(model, *[(1, 20, token) for token in range(30, 60)])

    assert scores_B.dtype is torch.float32
    assert not torch.equal(scores_B, scores_B.bfloat16().float())
