"""Decoding: prompts read by the model at once, then one token a row and step.

B rows (responses being written), N prompts, P prompt tokens, H query heads, J key heads, E head
size, D hidden, F feed-forward, V vocabulary.

Hugging Face's model holds the weights and reads the prompts, up to the last layer. Steps run here,
because of three costs: a cache that is concatenated anew each step, prompts repeated for each
response, and mask and position bookkeeping that take longer than the mathematics of a small model.
The log-probabilities equal those of the model's own forward pass (tested to 1e-5).
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from language.caches import Cache
from language.norms import norm_of_rows
from language.projections import (
    adding,
    gate_and_up,
    logits_projection,
    paired,
    queries_keys_values,
)
from language.prompt_cache import Prompts

_PREFILL_TOKENS = 2**14
_PADDING = 96
"""Padding that costs less than another pass over the layers."""
_PADDED_SHARE, _PADDED_SHARE_ON_A_GPU = 0.125, 0.25
"""Of a lot's tokens. A GPU computes hundreds of them while it waits for another pass to begin."""
_CacheT = TypeVar("_CacheT", bound=Cache)
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}


class Decoder:
    """Steps of one model while its weights stay as they are: make a new one for each call."""

    def __init__(self, model: LlamaForCausalLM, *, max_positions: int, num_rows: int) -> None:
        """Prepare for at most `num_rows` sequences at a time, of at most `max_positions`."""
        config: Any = model.config
        rope_type = config.rope_parameters["rope_type"]
        if rope_type not in _ROPE_TYPES:
            raise ValueError(f"rope_type: {rope_type!r} is not one of {sorted(_ROPE_TYPES)}")
        self._model = model
        self._num_heads: int = config.num_attention_heads
        self._num_key_heads: int = config.num_key_value_heads
        self._head_size: int = model.model.layers[0].self_attn.head_dim
        self._trunk = _without_last_layer(model.model)
        self._layers = [_layer(layer, num_rows) for layer in model.model.layers]
        self._norm = norm_of_rows(model.model.norm)
        self._head = logits_projection(model.lm_head, num_rows)
        self._turns = _rotations(model, max_positions)
        self._in_pairs = paired(torch.arange(self._head_size, device=model.device))

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
        is_gpu = self._model.device.type == "cuda"
        share = _PADDED_SHARE_ON_A_GPU if is_gpu else _PADDED_SHARE
        for end in range(1, len(prompts) + 1):
            if end == len(prompts) or _is_another_lot(prompts[first:end], prompts[end], share):
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
        hidden_NPD = self._trunk(
            input_ids=ids_NP, past_key_values=cache, use_cache=True
        ).last_hidden_state
        last_keys, last_values = self._last_keys_values(hidden_NPD)
        layers: list[Any] = cache.layers[:-1]
        keys = [layer.keys.transpose(2, 3).index_select(2, self._in_pairs) for layer in layers]
        last_ND = hidden_NPD[torch.arange(len(prompts), device=device), last_N]
        return Prompts(
            keys=[*keys, last_keys],
            values=[*(layer.values for layer in layers), last_values],
            lengths=lengths,
            logits_NV=self._logits_after(last_ND, last_N, last_keys, last_values),
        )

    def _last_keys_values(self, hidden_NPD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last layer's keys (N, J, E, P) and values (N, J, P, E) of prompts."""
        module = self._model.model.layers[-1]
        hidden_NPD = module.input_layernorm(hidden_NPD)
        num_prompts, num_tokens, _ = hidden_NPD.shape
        attention, shape = module.self_attn, (num_prompts, num_tokens, -1, self._head_size)
        keys_NPJE = attention.k_proj(hidden_NPD).view(shape).index_select(3, self._in_pairs)
        turns_T1E = self._turns[:num_tokens].repeat(num_prompts, 1, 1)
        _turn_(keys_NPJE.flatten(0, 1), turns_T1E)
        values_NPJE = attention.v_proj(hidden_NPD).view(shape)
        return keys_NPJE.permute(0, 2, 3, 1), values_NPJE.transpose(1, 2)

    def _logits_after(
        self, last_ND: Tensor, last_N: Tensor, keys_NJEP: Tensor, values_NJPE: Tensor
    ) -> Tensor:
        """Return logits_NV float32 of what follows prompts: their last tokens in the last layer."""
        layer = self._layers[-1]
        heads = self._heads(layer, last_ND, self._turns[last_N])
        query_NJGE = heads[:, : self._num_heads].unflatten(1, (self._num_key_heads, -1)).float()
        is_padding_NP = torch.arange(keys_NJEP.shape[3], device=last_N.device) > last_N[:, None]
        scores = query_NJGE @ keys_NJEP.float()
        scores.masked_fill_(is_padding_NP[:, None, None], float("-inf"))
        output_NJGE = scores.softmax(dim=3) @ values_NJPE.float()
        output_ND = output_NJGE.flatten(1).to(last_ND.dtype)
        return self._logits(_after_attention(layer, last_ND, output_ND))

    def step(self, ids_B: Tensor, position_B: Tensor, cache: Cache) -> Tensor:
        """Append `ids_B` to the cache's rows and return logits_BV float32 of what follows."""
        turns_B1E, dtype = self._turns[position_B], cache.dtype
        cache.advance()
        hidden_BD = self._model.model.embed_tokens(ids_B)
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, hidden_BD, turns_B1E).to(dtype)
            cache.write(index, heads[:, self._num_heads :].unflatten(1, (2, -1)))
            output_BD = cache.attend(index, heads[:, : self._num_heads])
            hidden_BD = _after_attention(layer, hidden_BD, output_BD.to(hidden_BD.dtype))
        return self._logits(hidden_BD)

    def _heads(self, layer: "_Layer", hidden_BD: Tensor, turns_B1E: Tensor) -> Tensor:
        """Return queries, keys and values (B, H + 2 J, E) of a layer, turned."""
        heads = layer.qkv(layer.norm(hidden_BD)).view(len(hidden_BD), -1, self._head_size)
        _turn_(heads[:, : self._num_heads + self._num_key_heads], turns_B1E)
        return heads

    def _logits(self, hidden_BD: Tensor) -> Tensor:
        return self._head(self._norm(hidden_BD)).float()


def _without_last_layer(model: LlamaModel) -> LlamaModel:
    """Return `model` with the same modules, but without its last layer and its last norm.

    Of a prompt's tokens the last alone is needed in full in the last layer: of the others keys and
    values are, a sixth of it.
    """
    trunk = copy(model)
    trunk._modules = {**model._modules, "layers": model.layers[:-1], "norm": nn.Identity()}
    return trunk


def _is_another_lot(
    prompts: Sequence[Sequence[int]], following: Sequence[int], share: float
) -> bool:
    """Return whether `following` is better read apart: too much padding, or too many tokens."""
    lengths = [len(prompt) for prompt in (*prompts, following)]
    padded = len(lengths) * max(lengths)
    return padded > _PREFILL_TOKENS or padded - sum(lengths) > max(_PADDING, share * padded)


class _Layer(NamedTuple):
    """A decoder layer as functions of (B, D) tensors."""

    norm: Callable[[Tensor], Tensor]
    qkv: Callable[[Tensor], Tensor]
    add_attention: Callable[[Tensor, Tensor], Tensor]
    mlp_norm: Callable[[Tensor], Tensor]
    gate_up: Callable[[Tensor], Sequence[Tensor]]
    activation: Callable[[Tensor], Tensor]
    add_mlp: Callable[[Tensor, Tensor], Tensor]


def _layer(module: LlamaDecoderLayer, num_rows: int) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    return _Layer(
        norm=norm_of_rows(module.input_layernorm),
        qkv=queries_keys_values(attention, num_rows),
        add_attention=adding(attention.o_proj, num_rows),
        mlp_norm=norm_of_rows(module.post_attention_layernorm),
        gate_up=gate_and_up(mlp, num_rows),
        activation=mlp.act_fn,
        add_mlp=adding(mlp.down_proj, num_rows),
    )


def _after_attention(layer: _Layer, hidden_BD: Tensor, output_BD: Tensor) -> Tensor:
    """Return a layer's output: `hidden_BD`, its attention's output projected, and its MLP's."""
    hidden_BD = layer.add_attention(hidden_BD, output_BD)
    gate_BF, up_BF = layer.gate_up(layer.mlp_norm(hidden_BD))
    return layer.add_mlp(hidden_BD, layer.activation(gate_BF).mul_(up_BF))


def _turn_(heads: Tensor, turns_B1E: Tensor) -> None:
    """Rotate heads (B, heads, E) of paired components in place, in float32 inside."""
    wide = heads.float()
    turned = torch.view_as_complex(wide.unflatten(2, (-1, 2)))
    turned.mul_(turns_B1E)
    if wide is not heads:
        heads.copy_(wide)


def _rotations(model: LlamaForCausalLM, num_positions: int) -> Tensor:
    """Return the rotary embedding as complex numbers (positions, 1, E / 2), in float32."""
    weight = model.model.embed_tokens.weight
    position_1T = torch.arange(num_positions, device=weight.device)[None]
    cos, sin = model.model.rotary_emb(weight[:1, None].float(), position_ids=position_1T)
    half = cos.shape[2] // 2
    return torch.complex(cos[0, :, None, :half], sin[0, :, None, :half])
