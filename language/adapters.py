"""Low-rank adapters (LoRA, arXiv:2106.09685) on a Llama's projections, by peft."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
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


def merge_adapters_(model: PreTrainedModel) -> None:
    """Add the adapters to the weights they adapt and remove them: a plain model of the same class.

    So a saved model needs no peft to load, and its head is where it always is.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module.get_base_layer())
