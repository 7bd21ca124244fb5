"""Llama policies: made from scratch, or loaded and saved in Hugging Face's layout."""

from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.utils.logging import disable_progress_bar

from language.devices import resolve_device, resolve_dtype
from language.hub import model_folder
from language.last_layer import use_last_layer_
from language.norms import use_few_pass_norms_
from language.precision import cast_parameters_
from language.templates import save_tokenizer
from language.tokenizers import bos_id_of, eos_id_of
from records.files import folder_written_atomically
from records.run_configs import ModelShape

__all__ = [
    "create_policy",
    "disable_dropout_",
    "empty_llama",
    "load_llama",
    "load_policy",
    "max_positions_of",
    "resolve_device",
    "resolve_dtype",
    "save_model",
]

Model = TypeVar("Model", bound=PreTrainedModel)

_CACHE_LINE = 64
"""Bytes, and what torch's own memory is aligned to."""


def create_policy(
    shape: ModelShape, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> LlamaForCausalLM:
    """Return a Llama with random weights that depend on `seed` alone, float32, on the CPU."""
    if shape.hidden_size % shape.num_heads:
        raise ValueError(
            f"hidden_size: {shape.hidden_size} is not a multiple of num_heads {shape.num_heads}"
        )
    pad_id, eos_id = tokenizer.pad_token_id, eos_id_of(tokenizer)
    settings: dict[str, Any] = {"attn_implementation": "sdpa"}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        max_position_embeddings=shape.max_positions,
        bos_token_id=bos_id_of(tokenizer),
        eos_token_id=eos_id,
        # The embedding of the padding id gets no gradient: it must never be the end token.
        pad_token_id=None if pad_id == eos_id else pad_id,
        rms_norm_eps=1e-5,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    _use_own_layers_(model)
    model.eval()
    return model


def load_policy(
    path_or_name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LlamaForCausalLM:
    """Return the policy of a folder or hub name: evaluation mode, no dropout, no remote code.

    Raises:
        ValueError: It is no Llama, or the weights do not fill the model.
        HubError: It is a name on the hub, and the model cannot be had; says what to do.
    """
    return load_llama(LlamaForCausalLM, path_or_name, dtype=dtype, device=device)


def load_llama(
    kind: type[Model],
    path_or_name: str | Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Model:
    """Return a Llama of class `kind` whose every weight came from the safetensors files.

    On the meta device it has its shape and no weights, and none are read.
    """
    disable_progress_bar()
    path_or_name = model_folder(path_or_name)
    kind_of_model = LlamaConfig.get_config_dict(str(path_or_name))[0].get("model_type")
    if kind_of_model != "llama":
        raise ValueError(f"{path_or_name} holds a model of type {kind_of_model!r}, not llama")
    if torch.device(device).type == "meta":
        empty = empty_llama(kind, LlamaConfig.from_pretrained(str(path_or_name)))
        cast_parameters_(empty, dtype)
        return empty
    loaded: Any = kind.from_pretrained(
        str(path_or_name),
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model: Model = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ValueError(f"{path_or_name} has no weights for {', '.join(missing)}")
    disable_dropout_(model)
    _use_own_layers_(model)
    nn.Module.to(model, device=device)
    _lie_evenly_(model)
    model.train(mode=False)
    return model


def empty_llama(kind: type[Model], config: LlamaConfig) -> Model:
    """Return a Llama of this shape on the meta device, where it has no weights."""
    with torch.device("meta"):
        empty = kind(deepcopy(config))
    # As every model starts; `language.packing` changes it, in the config too.
    empty.set_attn_implementation("sdpa")
    _use_own_layers_(empty)
    empty.train(mode=False)
    return empty


def max_positions_of(path_or_name: str | Path) -> int:
    """Return the longest row in tokens that the model accepts, without loading its weights."""
    folder = model_folder(path_or_name)
    return int(LlamaConfig.from_pretrained(str(folder)).max_position_embeddings)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model and tokenizer into `folder`, whole or not at all; Hugging Face loads it."""
    disable_progress_bar()
    with folder_written_atomically(folder) as temporary:
        model.save_pretrained(temporary)
        save_tokenizer(tokenizer, temporary)


def disable_dropout_(model: nn.Module) -> None:
    """Turn off every dropout: probabilities must not change between two looks at a row."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, LlamaAttention):
            module.attention_dropout = 0.0
    if isinstance(model, PreTrainedModel):
        model.config.attention_dropout = 0.0


def _lie_evenly_(model: nn.Module) -> None:
    """Copy the weights that begin within a cache line, as parts of a file may, to where one begins.

    Some processors' products round by how their factors lie. Equal weights are to say the same,
    whether they were just made or come from whichever file.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.data_ptr() % _CACHE_LINE:
            parameter.data = parameter.data.clone()


def _use_own_layers_(model: nn.Module) -> None:
    """Give the layers of `model` our classes where these take less; parameters stay."""
    use_few_pass_norms_(model)
    use_last_layer_(model)
