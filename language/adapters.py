"""Low-rank adapters (LoRA, arXiv:2106.09685) on a Llama's projections, by peft."""

import warnings
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from records.files import folder_written_atomically

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_adapters_(
    model: PreTrainedModel, *, rank: int, alpha: int, seed: int, name: str = "default"
) -> None:
    """Freeze `model` and put adapters of `rank`, scaled by alpha / rank, on every projection.

    They change nothing yet. A scalar head, being new, stays trainable beside them. A model may
    have several, under names of their own; `use_adapter_` says which one counts.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=_PROJECTIONS)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Several adapters are meant; peft asks whether they are.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=name)
    head = getattr(model, "score", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)


def use_adapter_(model: nn.Module, name: str | None) -> None:
    """Let the adapters called `name` count in the passes to come, or none of them."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            if name is not None:
                module.set_adapter([name])
            module.enable_adapters(enabled=name is not None)


@torch.no_grad()
def merged_state(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the weights of the plain model that `model` is with the adapters called `name`.

    The model stays as it is, so that what is computed with other adapters, or with none, stays the
    same to the last bit. Weights without adapters are not copied; the merged ones are on the CPU,
    as a GPU that holds one model may not hold two.
    """
    state: dict[str, Tensor] = {}
    for path, tensor in model.state_dict().items():
        if ".lora_" not in path:
            state[path.replace(".base_layer.", ".")] = tensor
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            weight = state[f"{path}.weight"]
            change = module.get_delta_weight(name)
            merged = (weight.float() + change.float()).to(weight.dtype)
            state[f"{path}.weight"] = merged.cpu()
    return state


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the plain model that `model` is as it computes now.

    Those of `merged_state` where adapters are in use, else its own.
    """
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if not adapted or adapted[0].disable_adapters:
        state = model.state_dict()
        kept = {path: tensor for path, tensor in state.items() if ".lora_" not in path}
        return {path.replace(".base_layer.", "."): tensor for path, tensor in kept.items()}
    (name,) = adapted[0].active_adapters
    return merged_state(model, name)


def save_merged_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, name: str
) -> None:
    """Write the plain model that `model` is with the adapters called `name`, as `save_model` does.

    Loading it needs no peft, and the model goes on with its adapters.
    """
    with folder_written_atomically(folder) as temporary:
        model.save_pretrained(temporary, state_dict=merged_state(model, name))
        tokenizer.save_pretrained(temporary)


def merge_adapters_(model: nn.Module) -> None:
    """Add the adapters to the weights they adapt and remove them: a plain model of the same class.

    So a saved model needs no peft to load, and its head is where it always is. A collective where
    the model is cut over several processes: each adds to the rows it holds.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            if isinstance(weight, DTensor):
                _merge_rows_(module, weight)
            else:
                module.merge()
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module.get_base_layer())


@torch.no_grad()
def _merge_rows_(module: LoraLayer, weight: DTensor) -> None:
    """Add B A, scaled, to this process's rows of a weight: its rows of B by all of A."""
    for name in module.active_adapters:
        weight_a, weight_b = (
            cast(nn.Module, module).get_parameter(f"{part}.{name}.weight")
            for part in ("lora_A", "lora_B")
        )
        assert isinstance(weight_a, DTensor), f"adapter {name} is whole, its layer is cut"
        assert isinstance(weight_b, DTensor), f"adapter {name} is whole, its layer is cut"
        change = (weight_b.to_local() @ weight_a.full_tensor()) * module.scaling[name]
        weight.to_local().add_(change.to(weight.dtype))
