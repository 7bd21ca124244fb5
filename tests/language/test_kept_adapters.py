"""Kept adapters: on their base they are what was merged, elsewhere they are refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification

from language.adapters import add_adapters_, merge_adapters_, use_adapter_
from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    BaseMismatchError,
    KeptAdapter,
    adapter_weights,
    load_adapter_,
    read_adapter,
    refuse_other_base,
    save_adapter,
    weights_digest,
)
from language.models import load_policy, save_model
from language.rows import TokenRow
from language.scalars import create_scalar_model, load_scalar_model, row_scalars, share_trunk
from tests.models import tiny_policy, tiny_tokenizer, write_tiny_policy

ROWS = [TokenRow((1, *range(20, 40)), (40, 2)), TokenRow((1, *range(20, 40)), (41, 42, 2))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("base") / "policy")


@pytest.fixture(scope="module")
def reward_model(base: Path) -> Path:
    """A folder as training leaves it: merged weights, and the adapter beside them."""
    model = create_scalar_model(base, seed=3)
    add_adapters_(model, rank=4, alpha=8, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    kept = KeptAdapter(adapter_weights(model, rank=4, alpha=8), weights_digest(base))
    merge_adapters_(model)
    folder = base.parent / "reward_model"
    save_model(model, tiny_tokenizer(), folder)
    save_adapter(folder / ADAPTER_FOLDER, kept)
    return folder


def kept_in(folder: Path) -> KeptAdapter:
    kept = read_adapter(folder / ADAPTER_FOLDER)
    assert kept is not None
    return kept


def test_on_its_base_a_kept_adapter_scores_as_the_merged_model(
    base: Path, reward_model: Path
) -> None:
    weights = kept_in(reward_model).weights
    policy = load_policy(base)
    model = share_trunk(policy)
    load_adapter_(policy.model, weights, name="helpfulness")
    model.score.weight.data.copy_(weights.head)
    merged = load_scalar_model(reward_model)
    with torch.no_grad():
        use_adapter_(policy.model, "helpfulness", is_frozen=True)
        scores = row_scalars(model, ROWS)
        torch.testing.assert_close(scores, row_scalars(merged, ROWS), atol=1e-5, rtol=0)
        use_adapter_(policy.model, None)
        assert (row_scalars(model, ROWS) - scores).abs().max() > 0.01
    assert not any(p.requires_grad for n, p in policy.named_parameters() if "lora_" in n)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_peft_reads_the_adapter_with_its_head(base: Path, reward_model: Path) -> None:
    plain = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    theirs = PeftModel.from_pretrained(plain, reward_model / ADAPTER_FOLDER)
    merged = LlamaForSequenceClassification.from_pretrained(reward_model)
    ids = torch.tensor([[*ROWS[1].prompt_ids, *ROWS[1].response_ids]])
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(input_ids=ids).logits, merged(input_ids=ids).logits, atol=1e-5, rtol=0
        )


def test_it_is_small_beside_the_merged_weights_and_the_same_files_every_time(
    reward_model: Path, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        save_adapter(tmp_path / name, kept_in(reward_model))
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    own = load_file(reward_model / ADAPTER_FOLDER / "adapter_model.safetensors")
    # Two layers; q, k, v, o of 32 by 32, gate and up of 64 by 32, down of 32 by 64; and the head.
    assert sum(tensor.numel() for tensor in own.values()) == 2 * 4 * (4 * 64 + 3 * 96) + 32


def test_the_digest_is_of_the_weights_and_not_of_how_their_files_are_cut(
    base: Path, tmp_path: Path
) -> None:
    digest = weights_digest(base)
    assert len(digest) == 64
    policy = load_policy(base)
    policy.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 2
    assert weights_digest(tmp_path / "cut") == digest
    with torch.no_grad():
        policy.model.layers[1].mlp.down_proj.weight[3, 5] += 1e-3
    policy.save_pretrained(tmp_path / "changed")
    assert weights_digest(tmp_path / "changed") != digest
    load_policy(base, dtype=torch.bfloat16).save_pretrained(tmp_path / "rounded")
    assert weights_digest(tmp_path / "rounded") != digest


def test_a_folder_without_weights_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no weights"):
        weights_digest(tmp_path)


def test_another_base_is_refused_by_both_digests(reward_model: Path, tmp_path: Path) -> None:
    kept = kept_in(reward_model)
    refuse_other_base("helpfulness", kept, kept.base_digest)
    other = weights_digest(write_tiny_policy(tmp_path / "other", seed=9))
    with pytest.raises(BaseMismatchError) as caught:
        refuse_other_base("helpfulness", kept, other)
    assert str(caught.value).startswith("helpfulness: ")
    assert kept.base_digest[:12] in str(caught.value)
    assert other[:12] in str(caught.value)
    assert (caught.value.trained_on, caught.value.base) == (kept.base_digest, other)


def test_a_base_of_another_shape_is_refused_by_name(reward_model: Path) -> None:
    weights = kept_in(reward_model).weights
    with pytest.raises(ValueError, match=r"q_proj\.lora_A\.weight: has shape \[4, 32\]"):
        load_adapter_(tiny_policy(hidden_size=64).model, weights, name="helpfulness")
    with pytest.raises(ValueError, match=r"layers\.2\..*: is missing"):
        load_adapter_(tiny_policy(num_layers=3).model, weights, name="helpfulness")
    with pytest.raises(ValueError, match=r"layers\.1\..*: the base has no such projection"):
        load_adapter_(tiny_policy(num_layers=1).model, weights, name="helpfulness")


def test_an_adapter_without_a_head_is_no_scalar_models() -> None:
    with pytest.raises(ValueError, match="has no head"):
        _ = AdapterWeights({}, 4, 8).head


def test_a_folder_without_an_adapter_has_none_and_another_format_is_refused(
    reward_model: Path, tmp_path: Path
) -> None:
    assert read_adapter(tmp_path) is None
    save_adapter(tmp_path / "a", kept_in(reward_model))
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
    with pytest.raises(ValueError, match="format 2 is not 1"):
        read_adapter(tmp_path / "a")
