"""Packed rows: laid out as said, and computed as if each row stood alone."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from language.models import save_model
from language.packed_attention import ATTENTION, Crossing, Run, with_block_mask
from language.packing import PackedRows, pack_rows, packed_hidden, packed_length, split_by_tokens
from language.precision import enable_activation_checkpointing_
from language.rows import TokenRow
from tests.models import tiny_policy, tiny_tokenizer

EOS = 2
PROMPT = (1, *range(20, 33))  # 14 tokens: long enough to be shared
OTHER = (1, *range(40, 53))
ROWS = [
    TokenRow(PROMPT, (60, 61, EOS)),
    TokenRow((1, 20), (60, EOS)),
    TokenRow(OTHER, (70, EOS)),
    TokenRow(PROMPT, (60, 62, 63, 64, EOS)),
    TokenRow((1, 20), (61, EOS)),
    TokenRow(PROMPT, ()),
    TokenRow((1, EOS, 1, 21), (EOS,)),
    TokenRow(PROMPT, (65, 66, 67, 68, EOS)),
]


def test_responses_branch_from_one_copy_of_their_prompt() -> None:
    packed = pack_rows([ROWS[0], ROWS[3]])

    assert packed.ids_T.tolist() == [*PROMPT, 60, 61, EOS, 60, 62, 63, 64, EOS]
    # The second response counts on from the prompt, not from the first response.
    assert packed.positions_T.tolist() == [*range(17), 14, 15, 16, 17, 18]
    assert packed.last_B.tolist() == [16, 21]
    assert packed.row_N.tolist() == [*range(17), *range(14), 17, 18, 19, 20, 21]
    assert packed.response_ids_M.tolist() == [60, 61, EOS, 60, 62, 63, 64, EOS]
    # Both responses are predicted from the prompt's last token on.
    assert packed.before_M.tolist() == [13, 14, 15, 13, 17, 18, 19, 20]
    assert packed.layout.runs == (Run(0, 1, 17), Run(17, 1, 5))
    assert packed.layout.crossings == (Crossing(17, 22, 0, 14),)
    assert packed_length([ROWS[0], ROWS[3]]) == 22


def test_short_prompts_are_copied_and_equal_rows_lie_side_by_side() -> None:
    packed = pack_rows([ROWS[1], ROWS[4]])

    assert packed.ids_T.tolist() == [1, 20, 60, EOS, 1, 20, 61, EOS]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert packed.layout.runs == (Run(0, 2, 4),)
    assert packed.layout.crossings == ()


def test_a_token_sees_the_prompt_and_its_own_response_only() -> None:
    packed = pack_rows([TokenRow(PROMPT, (60, 61)), TokenRow(PROMPT, (70, 71)), ROWS[1]])
    # The short row comes first, in places 0 to 3; then 14 of the prompt, and two and two.
    place_T = torch.arange(len(packed.ids_T))

    allowed = packed.layout.allows(place_T[:, None], place_T[None, :]).int()

    assert allowed[:4, :4].tolist() == torch.ones(4, 4).tril().int().tolist()
    assert allowed[:4, 4:].sum() == allowed[4:, :4].sum() == 0
    assert allowed[4:18, 4:18].tolist() == torch.ones(14, 14).tril().int().tolist()
    assert allowed[18:, 4:18].tolist() == [[1] * 14] * 4
    assert allowed[18:, 18:].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def hidden_alone(row: TokenRow) -> Tensor:
    """Return what an untouched model computes for a row by itself, under plain SDPA."""
    model = tiny_policy()
    assert model.config._attn_implementation == "sdpa"
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
    hidden: Tensor = model.model(input_ids=ids).last_hidden_state[0].detach()
    return hidden


def rows_of_line(hidden_TD: Tensor, packed: PackedRows, rows: list[TokenRow]) -> list[Tensor]:
    return list(hidden_TD[packed.row_N].split([row.num_tokens for row in rows]))


@pytest.mark.parametrize("order", [[*range(8)], [7, 6, 5, 4, 3, 2, 1, 0], [5, 0, 3], [2]])
def test_every_token_is_computed_as_if_its_row_stood_alone(order: list[int]) -> None:
    rows = [ROWS[i] for i in order]
    packed = pack_rows(rows)

    hidden_TD = packed_hidden(tiny_policy().model, packed)

    for row, hidden in zip(rows, rows_of_line(hidden_TD, packed, rows), strict=True):
        torch.testing.assert_close(hidden, hidden_alone(row), atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_gradients_are_those_of_rows_that_stand_alone(is_checkpointed: bool) -> None:
    weights = torch.randn(sum(row.num_tokens for row in ROWS), 32, generator=seeded())
    together, alone = tiny_policy(), tiny_policy()
    if is_checkpointed:
        enable_activation_checkpointing_(together)

    packed = pack_rows(ROWS)
    torch.autograd.backward((packed_hidden(together.model, packed)[packed.row_N] * weights).sum())
    parts = weights.split([row.num_tokens for row in ROWS])
    for row, part in zip(ROWS, parts, strict=True):
        ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
        torch.autograd.backward((alone.model(input_ids=ids).last_hidden_state[0] * part).sum())

    expected = dict(alone.model.named_parameters())
    for name, parameter in together.model.named_parameters():
        grad, other = parameter.grad, expected[name].grad
        assert grad is not None
        assert other is not None
        # Sums of hundreds of products round by the size of the largest, here up to 450.
        bound = 1e-5 * max(1.0, other.abs().max().item())
        torch.testing.assert_close(grad, other, atol=bound, rtol=0.0)


def test_nothing_of_one_row_reaches_another() -> None:
    changed = [*ROWS]
    changed[3] = TokenRow(PROMPT, (90, 91, 92, 93, EOS))
    changed[4] = TokenRow((1, 94), (95, EOS))
    before, after = pack_rows(ROWS), pack_rows(changed)
    model = tiny_policy()

    hidden = rows_of_line(packed_hidden(model.model, before), before, ROWS)
    changed_hidden = rows_of_line(packed_hidden(model.model, after), after, changed)

    for index in {*range(8)} - {3, 4}:
        assert torch.equal(hidden[index], changed_hidden[index])
    assert not torch.equal(hidden[3], changed_hidden[3])


def test_key_heads_may_be_fewer_than_query_heads() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 384}
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2)
    config._attn_implementation = "sdpa"
    model, plain = LlamaModel(deepcopy(config)), LlamaModel(config)
    plain.load_state_dict(model.state_dict())
    packed = pack_rows(ROWS)

    hidden = rows_of_line(packed_hidden(model, packed), packed, ROWS)

    for row, part in zip(ROWS, hidden, strict=True):
        ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
        expected = plain(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=0)


def test_a_model_that_has_packed_is_saved_as_any_other(tmp_path: Path) -> None:
    model = tiny_policy()
    packed_hidden(model.model, pack_rows(ROWS))
    save_model(model, tiny_tokenizer(), tmp_path / "policy")

    assert ATTENTION not in (tmp_path / "policy" / "config.json").read_text()


def test_a_model_that_has_packed_computes_padded_batches_as_before() -> None:
    model = tiny_policy()
    ids = torch.tensor([[2, 2, 1, 20, 30], [1, 20, 30, 40, 50]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    before = model(input_ids=ids, attention_mask=mask).logits

    packed_hidden(model.model, pack_rows(ROWS))

    assert model.config._attn_implementation == ATTENTION
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_gpus_blocks_follow_the_same_rule() -> None:
    packed = pack_rows(ROWS)
    in_blocks = packed._replace(layout=with_block_mask(packed.layout))
    model = tiny_policy()

    with torch.no_grad():  # FlexAttention has no backward pass on a CPU
        hidden_TD = packed_hidden(model.model, in_blocks)
        expected_TD = packed_hidden(model.model, packed)

    torch.testing.assert_close(hidden_TD, expected_TD, atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_does_forwards_and_backwards() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    results = {}
    for device in ("cpu", "cuda"):
        model = tiny_policy(hidden_size=64).to(device)  # heads of 16, the least FlexAttention takes
        packed = pack_rows(ROWS, device=device)
        hidden_ND = packed_hidden(model.model, packed)[packed.row_N]
        torch.autograd.backward(hidden_ND.square().sum())
        grad = model.model.layers[0].self_attn.k_proj.weight.grad
        assert grad is not None
        results[device] = (hidden_ND.detach().cpu(), grad.cpu())
    for on_gpu, on_cpu in zip(results["cuda"], results["cpu"], strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)


def test_groups_add_up_to_the_bound_at_most() -> None:
    # 31 is too long for any company; 10 and 5 and 4 make 19; 9 and 2 make 11.
    assert split_by_tokens([4, 10, 5, 2, 9, 31], tokens=20) == [[5], [1, 4], [2, 0, 3]]
    assert split_by_tokens([], tokens=20) == []
    with pytest.raises(ValueError, match="tokens: 0"):
        split_by_tokens([1], tokens=0)


def test_a_line_needs_rows_and_every_row_a_prompt() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        pack_rows([])
    with pytest.raises(ValueError, match="every row needs a prompt"):
        pack_rows([TokenRow((), (5,))])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
