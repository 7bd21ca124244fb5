"""Adapters: nothing at first, then what they learned, then part of the weights."""

from pathlib import Path

import torch
from peft.tuners.lora import Linear as LoraLinear

from language.adapters import (
    FewPassLoraLinear,
    add_adapters_,
    merge_adapters_,
    projection_of,
    use_adapter_,
)
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


def test_fewer_passes_give_what_pefts_own_layer_gives_forwards_and_backwards() -> None:
    model = tiny_policy()
    add_adapters_(model, rank=3, alpha=6, seed=1)
    layer = model.model.layers[0].self_attn.q_proj
    assert type(layer) is FewPassLoraLinear
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(layer.lora_B["default"].weight, generator=generator)
    inputs = torch.randn(2, 5, 32, generator=generator, requires_grad=True)
    weights = [inputs, layer.lora_A["default"].weight, layer.lora_B["default"].weight]

    output, expected = layer(inputs), LoraLinear.forward(layer, inputs)

    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)
    pairs = zip(
        torch.autograd.grad(output.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    )
    for grad, expected_grad in pairs:
        torch.testing.assert_close(grad, expected_grad, atol=1e-3, rtol=1e-5)


def test_a_layer_as_matrices_is_the_layer() -> None:
    model = tiny_policy()
    add_adapters_(model, rank=3, alpha=6, seed=1, name="one")
    add_adapters_(model, rank=2, alpha=5, seed=2, name="two")
    layer = model.model.layers[0].mlp.down_proj
    for name in ("one", "two"):
        torch.nn.init.normal_(layer.lora_B[name].weight, generator=torch.Generator())
    inputs = torch.randn(4, 64)
    for name in ("one", "two", None):
        use_adapter_(model, name)
        projection = projection_of(layer)
        assert projection is not None
        output = inputs @ projection.weight.t()
        if projection.low_rank is not None:
            output = output + inputs @ projection.low_rank.down @ projection.low_rank.up
        torch.testing.assert_close(output, layer(inputs), atol=1e-4, rtol=1e-5)
        assert (projection.low_rank is None) is (name is None)
    assert projection_of(torch.nn.Linear(2, 3)) is None  # it has a bias
