"""Two precisions: float32 is trained, the other type computes, and nothing small is lost."""

import torch

from language.adapters import add_adapters_
from language.precision import MixedWeights, cast_parameters_
from tests.models import tiny_policy

IDS = torch.tensor([[1, 20, 30, 40]])


def test_in_float32_both_models_are_one() -> None:
    model = tiny_policy()
    weights = MixedWeights(model, torch.float32)
    assert weights.working is weights.master is model


def test_gradients_of_micro_batches_are_summed_in_float32() -> None:
    weights = MixedWeights(tiny_policy(), torch.bfloat16)
    parameter = weights.working.lm_head.weight
    big, small = torch.full_like(parameter, 256.0), torch.full_like(parameter, 1.0)
    for gradient in (big, small):
        torch.autograd.backward((parameter * gradient).sum())
    # bfloat16 has 8 bits: 256 + 1 would be 256.
    assert weights.master.lm_head.weight.grad is not None
    assert (weights.master.lm_head.weight.grad == 257.0).all()
    assert parameter.grad is None


def test_an_update_too_small_for_bfloat16_is_kept_until_it_shows() -> None:
    weights = MixedWeights(tiny_policy(), torch.bfloat16)
    with torch.no_grad():
        weights.master.lm_head.weight.fill_(1.0)
        for _ in range(8):
            weights.master.lm_head.weight.add_(2**-10)  # a bfloat16 next to 1 is 2**-7 away
            weights.refresh_()
    assert (weights.working.lm_head.weight == 1.0 + 2**-7).all()


def test_the_working_model_computes_what_the_master_does_up_to_rounding() -> None:
    weights = MixedWeights(tiny_policy(), torch.bfloat16)
    assert {p.dtype for p in weights.working.parameters()} == {torch.bfloat16}
    expected, logits = weights.master(IDS).logits, weights.working(IDS).logits
    assert logits.dtype is torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.05)


def test_rotary_frequencies_stay_in_float32() -> None:
    model = tiny_policy()
    before = model.model.rotary_emb.inv_freq.clone()
    cast_parameters_(model, torch.bfloat16)
    assert torch.equal(model.model.rotary_emb.inv_freq, before)
    assert model.dtype is torch.bfloat16


def test_what_is_frozen_exists_once_and_what_is_trained_in_both_types() -> None:
    model = tiny_policy().bfloat16()
    frozen = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    add_adapters_(model, rank=4, alpha=8, seed=1)
    weights = MixedWeights(model, torch.bfloat16)
    working = dict(weights.working.named_parameters())
    for name, parameter in weights.master.named_parameters():
        if "lora_" in name:
            assert (parameter.dtype, working[name].dtype) == (torch.float32, torch.bfloat16)
        else:
            assert working[name] is parameter, "not a copy, which a card may have no room for"
            assert parameter.data_ptr() == frozen[name.replace(".base_layer", "")]
