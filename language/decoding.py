"""Decoding: prompts read by the model at once, then one token a row and step.

B rows (responses being written), N prompts, P prompt tokens, H query heads, J key heads, E head
size, D hidden, F feed-forward, V vocabulary.

Hugging Face's model holds the weights and reads the prompts. Steps run here, because of three
costs: a cache that is concatenated anew each step, prompts repeated for each response, and mask and
position bookkeeping that take longer than the mathematics of a small model. The log-probabilities
equal those of the model's own forward pass (tested to 1e-5).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from language.caches import Cache, Prompts, join_prompts

_FUSED_WEIGHTS = 2**22
"""Projections of at most this many weights are joined into one, for the length of a call."""
_PREFILL_TOKENS = 2**14
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
        self._layers = [_layer(layer) for layer in model.model.layers]
        self._cos, self._sin = _rotation_tables(model, max_positions)

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Return what the model makes of `prompts`; give them sorted by length."""
        width = max(len(prompt) for prompt in prompts)
        per_chunk = max(1, _PREFILL_TOKENS // width)
        chunks = [prompts[i : i + per_chunk] for i in range(0, len(prompts), per_chunk)]
        parts = [self._read(chunk) for chunk in chunks]
        return parts[0] if len(parts) == 1 else join_prompts(parts)

    def _read(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        device = self._model.device
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        ids_NP = torch.tensor(
            [[*prompt, *(0,) * (width - len(prompt))] for prompt in prompts], device=device
        )
        lengths_N = torch.tensor(lengths, device=device)
        # Padding is on the right, so causal attention hides it from every real token.
        cache = DynamicCache(config=self._model.config)
        hidden_NPD = self._model.model(
            input_ids=ids_NP, past_key_values=cache, use_cache=True
        ).last_hidden_state
        last_ND = hidden_NPD[torch.arange(len(prompts), device=device), lengths_N - 1]
        layers: list[Any] = cache.layers
        return Prompts(
            keys=[layer.keys for layer in layers],
            values=[layer.values for layer in layers],
            lengths_N=lengths_N,
            logits_NV=self._model.lm_head(last_ND).float(),
        )

    def step(self, ids_B: Tensor, position_B: Tensor, cache: Cache) -> Tensor:
        """Append `ids_B` to the cache's rows and return logits_BV float32 of what follows."""
        cos_B12E, sin_B1E = self._cos[position_B][:, None], self._sin[position_B][:, None]
        rows, rotating = len(ids_B), self._num_heads + self._num_key_heads
        cache.advance()
        hidden_BD = self._model.model.embed_tokens(ids_B)
        for index, layer in enumerate(self._layers):
            projected = layer.qkv(_normalised(hidden_BD, layer.norm))
            heads = projected.view(rows, rotating + self._num_key_heads, 2, -1)
            first, second = heads[:, :rotating].unbind(2)
            rotated = heads[:, :rotating] * cos_B12E
            rotated[:, :, 0].addcmul_(second, sin_B1E, value=-1.0)
            rotated[:, :, 1].addcmul_(first, sin_B1E)
            rotated = rotated.flatten(2)
            cache.write(index, rotated[:, self._num_heads :], heads[:, rotating:].flatten(2))
            output_BD = cache.attend(index, rotated[:, : self._num_heads])
            hidden_BD = layer.add_attention(hidden_BD, output_BD)
            gate_BF, up_BF = layer.gate_up(_normalised(hidden_BD, layer.mlp_norm)).chunk(2, dim=1)
            hidden_BD = layer.add_mlp(hidden_BD, layer.activation(gate_BF).mul_(up_BF))
        logits_BV: Tensor = self._model.lm_head(_normalised(hidden_BD, self._model.model.norm))
        return logits_BV.float()


class _Layer(NamedTuple):
    """A decoder layer as functions of (B, D) tensors."""

    norm: LlamaRMSNorm
    qkv: Callable[[Tensor], Tensor]
    add_attention: Callable[[Tensor, Tensor], Tensor]
    mlp_norm: LlamaRMSNorm
    gate_up: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    add_mlp: Callable[[Tensor, Tensor], Tensor]


def _layer(module: LlamaDecoderLayer) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    return _Layer(
        norm=module.input_layernorm,
        qkv=_joined(attention.q_proj, attention.k_proj, attention.v_proj),
        add_attention=_adding(attention.o_proj),
        mlp_norm=module.post_attention_layernorm,
        gate_up=_joined(mlp.gate_proj, mlp.up_proj),
        activation=mlp.act_fn,
        add_mlp=_adding(mlp.down_proj),
    )


def _normalised(hidden_BD: Tensor, norm: LlamaRMSNorm) -> Tensor:
    """Return the root-mean-square norm, in float32 inside, with few kernels."""
    wide_BD = hidden_BD.float()
    length_B1 = torch.linalg.vector_norm(wide_BD, dim=1, keepdim=True)
    scale_B1 = (length_B1 * length_B1 / hidden_BD.shape[1] + norm.variance_epsilon).rsqrt_()
    weighted_BD: Tensor = (wide_BD * scale_B1).to(hidden_BD.dtype) * norm.weight
    return weighted_BD


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Return whether a projection is only a matrix: not an adapter, not quantised."""
    return type(module) is nn.Linear and module.bias is None


def _adding(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of (hidden, x) that adds the projection of x to hidden."""
    if _is_plain(module):
        transposed = module.weight.t()
        return lambda hidden_BD, x: torch.addmm(hidden_BD, x, transposed)
    return lambda hidden_BD, x: hidden_BD + module(x)


def _joined(*modules: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that applies several projections and joins their outputs."""
    plain = [module for module in modules if _is_plain(module)]
    size = sum(module.weight.numel() for module in plain)
    if len(plain) == len(modules) and size <= _FUSED_WEIGHTS:
        weight = torch.cat([module.weight for module in plain])
        return lambda hidden_BD: F.linear(hidden_BD, weight)
    return lambda hidden_BD: torch.cat([module(hidden_BD) for module in modules], dim=-1)


def _rotation_tables(model: LlamaForCausalLM, num_positions: int) -> tuple[Tensor, Tensor]:
    """Return the rotary embedding's cosines (positions, 2, E / 2) and sines (positions, E / 2)."""
    weight = model.model.embed_tokens.weight
    position_1T = torch.arange(num_positions, device=weight.device)[None]
    cos, sin = model.model.rotary_emb(weight[:1, None], position_ids=position_1T)
    return cos[0].unflatten(1, (2, -1)), sin[0, :, : sin.shape[2] // 2].contiguous()
