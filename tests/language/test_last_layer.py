"""The last layer computed where it is read: the same there, forwards and backwards, for less."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from language.adapters import add_adapters_
from language.last_layer import LastLayer
from language.models import load_policy
from language.packing import PackedRows, pack_rows, packed_hidden
from language.precision import enable_activation_checkpointing_
from language.rows import TokenRow
from tests.models import tiny_policy, tiny_tokenizer

PROMPT = (1, *range(20, 34))
ROWS = [
    TokenRow(PROMPT, (60, 61, 2)),
    TokenRow((1, 20), (62, 2)),
    TokenRow(PROMPT, (63, 64, 65, 2)),
]


def gradients_of(model: LlamaForCausalLM) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def places_of(packed: PackedRows) -> Tensor:
    """Those before response tokens (a shared prompt's last one twice), and the rows' last ones."""
    return torch.cat([packed.before_M, packed.last_B])


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("is_adapted", [False, True])
def test_what_is_read_is_the_same_and_so_are_the_gradients(
    is_adapted: bool, is_checkpointed: bool
) -> None:
    packed = pack_rows(ROWS)
    places_R = places_of(packed)
    weights_RD = torch.randn(len(places_R), 32, generator=torch.Generator().manual_seed(1))
    hidden, gradients = [], []
    for is_read in (False, True):
        model = tiny_policy()
        if is_adapted:
            add_adapters_(model.model, rank=4, alpha=8, seed=1)
        if is_checkpointed:
            enable_activation_checkpointing_(model)
            torch.nn.Module.train(model)
        hidden_RD = (
            packed_hidden(model.model, packed, places_R)
            if is_read
            else packed_hidden(model.model, packed)[places_R]
        )
        torch.autograd.backward((hidden_RD * weights_RD).sum())
        hidden.append(hidden_RD)
        gradients.append(gradients_of(model))
    assert hidden[1].shape == (len(places_R), 32)
    torch.testing.assert_close(*hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_the_other_tokens_are_spared_the_last_feed_forward_alone() -> None:
    model, packed = tiny_policy(), pack_rows(ROWS)
    seen: list[int] = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    packed_hidden(model.model, packed, packed.last_B)
    *earlier, last = seen
    assert earlier == [len(packed.ids_T)] * (len(model.model.layers) - 1)
    assert last == len(ROWS)


def test_without_places_and_for_others_a_model_is_an_ordinary_llama(tmp_path: Path) -> None:
    made = tiny_policy()
    made.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded, plain = load_policy(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded.model.layers[-1]) is type(made.model.layers[-1]) is LastLayer
    ids_BT = torch.tensor([[*PROMPT]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids_BT).logits, plain(ids_BT).logits)
        packed_hidden(loaded.model, pack_rows(ROWS))
        torch.testing.assert_close(loaded(ids_BT).logits, plain(ids_BT).logits)


def test_a_llama_made_elsewhere_is_prepared_by_its_first_pass() -> None:
    plain, packed = LlamaForCausalLM(tiny_policy().config), pack_rows(ROWS)
    assert packed_hidden(plain.model, packed, packed.last_B).shape == (len(ROWS), 32)
    assert isinstance(plain.model.layers[-1], LastLayer)
