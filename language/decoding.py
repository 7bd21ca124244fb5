"""Decoding: prompts read by the model at once, then one token a row and step.

B rows (responses being written), N prompts, P prompt tokens, H query heads, J key heads, E head
size, D hidden, F feed-forward, V vocabulary.

Hugging Face's model holds the weights and reads the prompts. Steps run here, because of three
costs: a cache that is concatenated anew each step, prompts repeated for each response, and mask and
position bookkeeping that take longer than the mathematics of a small model. The log-probabilities
equal those of the model's own forward pass (tested to 1e-5).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaForCausalLM
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaRMSNorm,
)

from language.adapters import LowRank, Projection, projection_of
from language.caches import Cache, Prompts

_FUSED_WEIGHTS = 2**22
"""Projections of at most this many weights are joined into one, for the length of a call."""
_FUSED_WEIGHTS_ON_A_GPU = 2**26
"""There a launch costs more than the copy: 3.2 GB for the queries, keys and values of 7B."""
_ROOMY_BYTES = 40 * 2**30
"""A GPU with less memory has no room for such copies."""
_PREFILL_TOKENS = 2**14
_PADDING = 64
"""Padding that costs less than another pass over the layers."""
_CacheT = TypeVar("_CacheT", bound=Cache)
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}


class Decoder:
    """Steps of one model while its weights stay as they are: make a new one for each call."""

    def __init__(self, model: LlamaForCausalLM, *, max_positions: int) -> None:
        config: Any = model.config
        rope_type = config.rope_parameters["rope_type"]
        if rope_type not in _ROPE_TYPES:
            raise ValueError(f"rope_type: {rope_type!r} is not one of {sorted(_ROPE_TYPES)}")
        self._model = model
        self._num_heads: int = config.num_attention_heads
        self._num_key_heads: int = config.num_key_value_heads
        self._head_size: int = model.model.layers[0].self_attn.head_dim
        self._layers = [_layer(layer) for layer in model.model.layers]
        self._turns = _rotations(model, max_positions)
        self._in_pairs = _paired(torch.arange(self._head_size, device=model.device))

    def create_cache(self, kind: type[_CacheT], *, num_rows: int, num_prompts: int) -> _CacheT:
        """Return an empty cache. On a CPU it is float32 whatever the model: so is attention."""
        device = self._model.device
        return kind(
            num_layers=len(self._layers),
            num_key_heads=self._num_key_heads,
            head_size=self._head_size,
            num_rows=num_rows,
            num_prompts=num_prompts,
            dtype=torch.float32 if device.type == "cpu" else self._model.dtype,
            device=device,
        )

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> list[Prompts]:
        """Return what the model makes of `prompts`, in lots of like length and in this order."""
        lots, first = [], 0
        for end in range(1, len(prompts) + 1):
            if end == len(prompts) or _is_another_lot(prompts[first:end], prompts[end]):
                lots.append(self._read(prompts[first:end]))
                first = end
        return lots

    def _read(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        device = self._model.device
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        ids_NP = torch.tensor(
            [[*prompt, *(0,) * (width - len(prompt))] for prompt in prompts], device=device
        )
        last_N = torch.tensor(lengths, device=device) - 1
        # Padding is on the right, so causal attention hides it from every real token.
        cache = DynamicCache(config=self._model.config)
        hidden_NPD = self._model.model(
            input_ids=ids_NP, past_key_values=cache, use_cache=True
        ).last_hidden_state
        last_ND = hidden_NPD[torch.arange(len(prompts), device=device), last_N]
        layers: list[Any] = cache.layers
        return Prompts(
            keys=[layer.keys.index_select(3, self._in_pairs) for layer in layers],
            values=[layer.values for layer in layers],
            lengths=lengths,
            logits_NV=self._model.lm_head(last_ND).float(),
        )

    def step(self, ids_B: Tensor, position_B: Tensor, cache: Cache) -> Tensor:
        """Append `ids_B` to the cache's rows and return logits_BV float32 of what follows."""
        turns_B1E = self._turns[position_B]
        rows, rotating, dtype = len(ids_B), self._num_heads + self._num_key_heads, cache.dtype
        shape = (rows, rotating + self._num_key_heads, self._head_size)
        cache.advance()
        hidden_BD = self._model.model.embed_tokens(ids_B)
        for index, layer in enumerate(self._layers):
            heads = layer.qkv(_normalised(hidden_BD, layer.norm)).view(shape)
            _turn_(heads[:, :rotating], turns_B1E)
            heads = heads.to(dtype)
            cache.write(index, heads[:, self._num_heads :].unflatten(1, (2, -1)))
            output_BD = cache.attend(index, heads[:, : self._num_heads])
            hidden_BD = layer.add_attention(hidden_BD, output_BD.to(hidden_BD.dtype))
            gate_BF, up_BF = layer.gate_up(_normalised(hidden_BD, layer.mlp_norm))
            hidden_BD = layer.add_mlp(hidden_BD, layer.activation(gate_BF).mul_(up_BF))
        logits_BV: Tensor = self._model.lm_head(_normalised(hidden_BD, self._model.model.norm))
        return logits_BV.float()


def _is_another_lot(prompts: Sequence[Sequence[int]], following: Sequence[int]) -> bool:
    """Return whether `following` is better read apart: too much padding, or too many tokens."""
    lengths = [len(prompt) for prompt in (*prompts, following)]
    padded = len(lengths) * max(lengths)
    return padded > _PREFILL_TOKENS or padded - sum(lengths) > max(_PADDING, 0.25 * padded)


class _Layer(NamedTuple):
    """A decoder layer as functions of (B, D) tensors."""

    norm: LlamaRMSNorm
    qkv: Callable[[Tensor], Tensor]
    add_attention: Callable[[Tensor, Tensor], Tensor]
    mlp_norm: LlamaRMSNorm
    gate_up: Callable[[Tensor], Sequence[Tensor]]
    activation: Callable[[Tensor], Tensor]
    add_mlp: Callable[[Tensor, Tensor], Tensor]


def _layer(module: LlamaDecoderLayer) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    return _Layer(
        norm=module.input_layernorm,
        qkv=_queries_keys_values(attention),
        add_attention=_adding(attention.o_proj),
        mlp_norm=module.post_attention_layernorm,
        gate_up=_gate_and_up(mlp),
        activation=mlp.act_fn,
        add_mlp=_adding(mlp.down_proj),
    )


def _normalised(hidden_BD: Tensor, norm: LlamaRMSNorm) -> Tensor:
    """Return the root-mean-square norm, in float32 inside, with few kernels."""
    return F.rms_norm(hidden_BD, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turn_(heads: Tensor, turns_B1E: Tensor) -> None:
    """Rotate heads (B, heads, E) of paired components in place, in float32 inside."""
    wide = heads.float()
    turned = torch.view_as_complex(wide.unflatten(2, (-1, 2)))
    turned.mul_(turns_B1E)
    if wide is not heads:
        heads.copy_(wide)


def _paired(head: Tensor) -> Tensor:
    """Return the components of a head (first dimension) so that those that turn together meet."""
    paired: Tensor = head.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
    return paired


def _queries_keys_values(attention: LlamaAttention) -> Callable[[Tensor], Tensor]:
    """Return a function to queries, keys and values (B, (H + 2 J) * E), queries scaled.

    Components that turn together stand side by side in queries and keys: a rotation is then one
    product of complex numbers. Attention does not see the order.
    """
    size, scale = attention.head_dim, attention.scaling
    modules = (attention.q_proj, attention.k_proj, attention.v_proj)
    order = _paired(torch.arange(size))
    counts = [module.out_features // size for module in modules]
    orders = [order, order, torch.arange(size)]
    rows = [
        torch.arange(count)[:, None] * size + within
        for count, within in zip(counts, orders, strict=True)
    ]
    device = attention.q_proj.weight.device
    places = [part.flatten().to(device) for part in rows]
    parts = _joinable(modules)
    if parts is not None:
        factors = (scale, 1.0, 1.0)
        arranged = [
            _arranged(part, place, factor)
            for part, place, factor in zip(parts, places, factors, strict=True)
        ]
        return partial(_projected, _side_by_side(arranged))
    functions = [_function_of(module) for module in modules]

    def apart(hidden_BD: Tensor) -> Tensor:
        q, k, v = (function(hidden_BD) for function in functions)
        return torch.cat([q[:, places[0]] * scale, k[:, places[1]], v], dim=-1)

    return apart


def _gate_and_up(mlp: LlamaMLP) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function to both halves of a gated layer."""
    modules = (mlp.gate_proj, mlp.up_proj)
    parts = _joinable(modules)
    if parts is not None:
        joined = _side_by_side(parts)
        return lambda hidden_BD: _projected(joined, hidden_BD).chunk(2, dim=1)
    functions = [_function_of(module) for module in modules]
    return lambda hidden_BD: [function(hidden_BD) for function in functions]


def _adding(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of (hidden, x) that adds the projection of x to hidden."""
    part = projection_of(module)
    if part is None:
        return lambda hidden_BD, x: hidden_BD + module(x)
    transposed, low_rank = part.weight.t(), part.low_rank
    if low_rank is None:
        return lambda hidden_BD, x: torch.addmm(hidden_BD, x, transposed)
    down, up = low_rank
    return lambda hidden_BD, x: torch.addmm(hidden_BD, x, transposed).addmm_(x @ down, up)


def _function_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the projection as a function, with fewer kernels than the module where it may be."""
    part = projection_of(module)
    return module if part is None else partial(_projected, part)


def _projected(part: Projection, hidden_BD: Tensor) -> Tensor:
    output = F.linear(hidden_BD, part.weight)
    if part.low_rank is not None:
        output.addmm_(hidden_BD @ part.low_rank.down, part.low_rank.up)
    return output


def _joinable(modules: Sequence[nn.Module]) -> list[Projection] | None:
    """Return the projections as matrices where these are small enough to be copied for a call."""
    parts = [part for part in map(projection_of, modules) if part is not None]
    size = sum(part.weight.numel() for part in parts)
    if len(parts) < len(modules):
        return None
    return parts if size <= _max_fused(parts[0].weight.device) else None


def _max_fused(device: torch.device) -> int:
    """Return how many weights may be copied to be joined; what this process may use decides."""
    if device.type != "cuda":
        return _FUSED_WEIGHTS
    share = torch.cuda.get_per_process_memory_fraction(device)
    room = share * torch.cuda.get_device_properties(device).total_memory
    return _FUSED_WEIGHTS_ON_A_GPU if room >= _ROOMY_BYTES else _FUSED_WEIGHTS


def _arranged(part: Projection, places: Tensor, factor: float) -> Projection:
    """Return a projection whose outputs are those at `places`, times `factor`."""
    low_rank = part.low_rank
    if low_rank is not None:
        low_rank = low_rank._replace(up=low_rank.up[:, places] * factor)
    return Projection(part.weight[places] * factor, low_rank)


def _side_by_side(parts: Sequence[Projection]) -> Projection:
    """Return several projections of the same input as one, their outputs joined."""
    weight = torch.cat([part.weight for part in parts])
    if all(part.low_rank is None for part in parts):
        return Projection(weight, None)
    empty = LowRank(weight.new_empty(weight.shape[1], 0), weight.new_empty(0, 0))
    low_ranks = [
        part.low_rank or empty._replace(up=weight.new_empty(0, len(part.weight))) for part in parts
    ]
    down = torch.cat([low_rank.down for low_rank in low_ranks], dim=1)
    return Projection(weight, LowRank(down, torch.block_diag(*(low.up for low in low_ranks))))


def _rotations(model: LlamaForCausalLM, num_positions: int) -> Tensor:
    """Return the rotary embedding as complex numbers (positions, 1, E / 2), in float32."""
    weight = model.model.embed_tokens.weight
    position_1T = torch.arange(num_positions, device=weight.device)[None]
    cos, sin = model.model.rotary_emb(weight[:1, None].float(), position_ids=position_1T)
    half = cos.shape[2] // 2
    return torch.complex(cos[0, :, None, :half], sin[0, :, None, :half])
