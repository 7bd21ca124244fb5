"""Adapters: nothing at first, then what they learned, then part of the weights."""

from pathlib import Path

import torch

from language.adapters import add_adapters_, merge_adapters_
from language.models import save_model
from language.packing import pack_rows, packed_hidden
from language.rows import TokenRow
from language.scalars import create_scalar_model, load_scalar_model, row_scalars
from tests.models import tiny_policy, tiny_tokenizer, write_tiny_policy

ROWS = [TokenRow((1, *range(20, 40)), (40, 2)), TokenRow((1, *range(20, 40)), (41, 42, 2))]


def test_new_adapters_change_nothing_and_freeze_all_but_themselves() -> None:
    model, plain = tiny_policy(), tiny_policy()
    add_adapters_(model, rank=4, alpha=8, seed=1)

    assert torch.equal(
        packed_hidden(model.model, pack_rows(ROWS)), packed_hidden(plain.model, pack_rows(ROWS))
    )
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 7 * 2  # layers, projections, two matrices each
    assert all("lora_" in name for name in trainable)


def test_the_seed_alone_decides_them() -> None:
    first, second, other = tiny_policy(), tiny_policy(), tiny_policy()
    add_adapters_(first, rank=4, alpha=8, seed=1)
    torch.rand(3)
    add_adapters_(second, rank=4, alpha=8, seed=1)
    add_adapters_(other, rank=4, alpha=8, seed=2)
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    states = [model.state_dict()[name] for model in (first, second, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_merged_model_scores_the_same_and_is_saved_with_its_head(tmp_path: Path) -> None:
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=3)
    before = row_scalars(model, ROWS)
    add_adapters_(model, rank=4, alpha=8, seed=1)
    assert model.score.weight.requires_grad
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
        model.score.weight.mul_(2.0)
        adapted = row_scalars(model, ROWS)

        merge_adapters_(model)
        merged = row_scalars(model, ROWS)

    assert not torch.allclose(adapted, 2 * before, atol=1e-3)
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)
    save_model(model, tiny_tokenizer(), tmp_path / "reward")
    loaded = load_scalar_model(tmp_path / "reward")
    torch.testing.assert_close(row_scalars(loaded, ROWS).detach(), adapted, atol=1e-5, rtol=0)
