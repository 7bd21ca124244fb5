"""Reward models and Hugging Face: saved here and loaded there, and the other way round."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from language.chat import encode_prompt, encode_response
from language.models import save_model
from language.rows import TokenRow
from language.scalars import create_scalar_model, load_scalar_model, score_rows
from language.tokenizers import load_tokenizer
from records.reward_configs import RewardModelConfig
from rewardmodels.training import train
from tests.models import tiny_tokenizer, write_tiny_policy
from tests.rewardmodels.toys import (
    LEARNING,
    context_for,
    create_run,
    preference,
    write_toy_snapshot,
)

PAD, EOS = 3, 2


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: trained, saved, with the list of its pairs beside the weights."""
    folder = tmp_path_factory.mktemp("run")
    snapshot = write_toy_snapshot(folder / "s", [preference(i) for i in range(16)])
    inputs = {"policy": write_tiny_policy(folder / "policy"), "snapshot": snapshot}
    config = RewardModelConfig(other_axis_share=0.0, pairs_per_batch=8, optimizer=LEARNING)
    directory, spec = create_run(folder / "run", config, inputs)
    train(directory, spec, context_for(directory, spec))
    return directory.outputs / "reward_model"


def rows() -> list[TokenRow]:
    tokenizer = tiny_tokenizer()
    return [
        TokenRow(
            tuple(encode_prompt(tokenizer, item.prompt)),
            tuple(encode_response(tokenizer, item.chosen)),
        )
        for item in (preference(i) for i in range(100, 112))
    ]


def padded(some: list[TokenRow], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, as a Hugging Face tokenizer does."""
    ids = [torch.tensor([*row.prompt_ids, *row.response_ids]) for row in some]
    mask = [torch.ones(len(row)) for row in ids]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, batch_first=True, padding_value=pad_id), pad(mask, batch_first=True)


def test_transformers_gives_the_same_scores_with_right_padding(reward_model: Path) -> None:
    theirs = LlamaForSequenceClassification.from_pretrained(reward_model)
    ids, mask = padded(rows(), PAD)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (12, 1)
    ours = score_rows(load_scalar_model(reward_model), rows(), rows_per_batch=12)
    torch.testing.assert_close(logits[:, 0].float(), ours, atol=1e-5, rtol=0.0)


def test_the_tokenizer_comes_with_the_model_and_knows_its_padding(reward_model: Path) -> None:
    model = LlamaForSequenceClassification.from_pretrained(reward_model)
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    assert model.config.pad_token_id == tokenizer.pad_token_id == PAD
    assert model.config.num_labels == 1


def test_where_padding_is_the_end_token_transformers_reads_one_token_too_early(
    reward_model: Path,
) -> None:
    """The caveat: it looks for the last token that is not padding, so the true end is skipped.

    Ours counts real tokens by the mask. Give Hugging Face a padding token of its own.
    """
    theirs = LlamaForSequenceClassification.from_pretrained(reward_model)
    theirs.config.pad_token_id = EOS
    ids, mask = padded(rows(), EOS)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=mask).logits[:, 0].float()
    model = load_scalar_model(reward_model)
    ours = score_rows(model, rows(), rows_per_batch=12)
    cut = [TokenRow(row.prompt_ids, row.response_ids[:-1]) for row in rows()]
    without_end = score_rows(model, cut, rows_per_batch=12)
    torch.testing.assert_close(logits, without_end, atol=1e-5, rtol=0.0)
    assert (logits - ours).abs().min() > 1e-4


def test_a_hugging_face_reward_model_loads_here(tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tiny_tokenizer()),
        max_position_embeddings=128,
        pad_token_id=PAD,
        num_labels=1,
    )
    theirs = LlamaForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    ids, mask = padded(rows(), PAD)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=mask).logits[:, 0]
    scores = score_rows(load_scalar_model(tmp_path), rows(), rows_per_batch=5)
    torch.testing.assert_close(scores, logits, atol=1e-5, rtol=0.0)


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights for score\.weight"):
        load_scalar_model(write_tiny_policy(tmp_path / "policy"))


def test_what_was_loaded_from_hugging_face_is_saved_again_unchanged(
    reward_model: Path, tmp_path: Path
) -> None:
    model = LlamaForSequenceClassification.from_pretrained(reward_model)
    save_model(model, load_tokenizer(reward_model), tmp_path / "again")
    first, second = load_scalar_model(reward_model), load_scalar_model(tmp_path / "again")
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_the_head_of_a_fresh_model_is_saved_with_it(tmp_path: Path) -> None:
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=1)
    save_model(model, tiny_tokenizer(), tmp_path / "model")
    loaded = LlamaForSequenceClassification.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.score.weight, model.score.weight)
