"""Scalar models: where scores are read, and that the head is kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.models import save_model
from language.rows import TokenRow, pad_rows
from language.scalars import create_scalar_model, load_scalar_model, row_scalars, token_scalars
from tests.models import tiny_tokenizer, write_tiny_policy

EOS = 2


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture(scope="module")
def model(policy_folder: Path) -> LlamaForSequenceClassification:
    return create_scalar_model(policy_folder, seed=3)


def score(model: LlamaForSequenceClassification, *rows: tuple[int, ...]) -> Tensor:
    """Score rows as one batch."""
    with torch.no_grad():
        return row_scalars(model, [TokenRow(row, ()) for row in rows])


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


def test_a_row_scalar_is_the_head_at_its_last_token(
    model: LlamaForSequenceClassification,
) -> None:
    rows = [TokenRow((1, 20), (30, EOS)), TokenRow((1, *range(20, 40)), ()), TokenRow((1,), (5,))]
    batch = pad_rows(rows, pad_id=EOS)

    with torch.no_grad():
        scalars_BT = token_scalars(model, batch.ids_BT, batch.attention_mask_BT)
        scalars_B = row_scalars(model, rows)

    torch.testing.assert_close(scalars_B, scalars_BT[[0, 1, 2], [3, 20, 1]], atol=1e-6, rtol=0)


def test_a_token_scalar_is_the_head_at_the_token(model: LlamaForSequenceClassification) -> None:
    batch = pad_rows([TokenRow((1, 20, 30), (40, EOS)), TokenRow((1, 50), (EOS,))], pad_id=EOS)

    with torch.no_grad():
        scalars_BT = token_scalars(model, batch.ids_BT, batch.attention_mask_BT)
        hidden = [
            model.model(batch.ids_BT[i : i + 1, :n]).last_hidden_state for i, n in ((0, 5), (1, 3))
        ]
        expected = [(h[0] @ model.score.weight[0]).tolist() for h in hidden]

    assert scalars_BT[0].tolist() == pytest.approx(expected[0], abs=1e-6)
    assert scalars_BT[1].tolist() == pytest.approx([*expected[1], 0.0, 0.0], abs=1e-6)


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
