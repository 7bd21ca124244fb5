"""Low-rank adapters (LoRA, arXiv:2106.09685) on a Llama's projections, by peft."""

from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_adapters_(model: PreTrainedModel, *, rank: int, alpha: int, seed: int) -> None:
    """Freeze `model` and put adapters of `rank`, scaled by alpha / rank, on every projection.

    They change nothing yet. A scalar head, being new, stays trainable beside them.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=_PROJECTIONS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    head = getattr(model, "score", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)


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
