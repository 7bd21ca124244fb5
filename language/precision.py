"""Weights in two precisions: float32 for the optimizer, and what the layers compute with."""

from collections.abc import Callable
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)


class MixedWeights(Generic[Model]):
    """A float32 model that is trained, and the model in `dtype` that is run.

    With float32 they are one. Otherwise each gradient of the running model is added to the float32
    one as soon as it is there, so that sums over micro-batches and processes lose no bits, and
    updates too small for bfloat16 are not lost either. Frozen weights exist once, in `dtype`.

    Attributes:
        master: Holds float32 weights and gradients: for the optimizer and for checkpoints.
        working: Computes: for forward and backward passes, reports and outputs.
    """

    def __init__(self, master: Model, dtype: torch.dtype) -> None:
        self.master = master
        self.working = master if dtype is torch.float32 else _copy_in(master, dtype)

    def refresh_(self) -> None:
        """Copy the float32 weights, changed by the optimizer or a checkpoint, to those that run."""
        if self.working is self.master:
            return
        with torch.no_grad():
            working: list[Tensor] = [p for p in self.working.parameters() if p.requires_grad]
            master: list[Tensor] = [p for p in self.master.parameters() if p.requires_grad]
            torch._foreach_copy_(working, master)


def enable_activation_checkpointing_(model: PreTrainedModel) -> None:
    """Keep each layer's input only and compute the layer again in the backward pass."""
    enable: Callable[[dict[str, bool]], None]
    if hasattr(model, "activation_checkpointing_enable"):
        enable = model.activation_checkpointing_enable
    else:  # before transformers 5.23
        enable = model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    # Transformers checkpoints in training mode alone; every dropout is off (language.models).
    nn.Module.train(model)


def cast_parameters_(model: nn.Module, dtype: torch.dtype) -> None:
    """Give `model` weights in `dtype`; its buffers, the rotary frequencies, stay in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def cast_frozen_(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights that are not trained the type that `model` computes in."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def float_trained_(model: nn.Module) -> None:
    """Give the weights that are trained float32, whatever the others are."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _copy_in(master: Model, dtype: torch.dtype) -> Model:
    # Frozen weights are not copied: the two models hold the same parameter.
    frozen = {id(p): p for p in master.parameters() if not p.requires_grad}
    working = deepcopy(master, {**frozen})
    cast_parameters_(working, dtype)
    for parameter, target in zip(working.parameters(), master.parameters(), strict=True):
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_HandOver(target))
    return working


class _HandOver:
    """Adds a parameter's gradient to that of its float32 master, and clears it."""

    def __init__(self, target: nn.Parameter) -> None:
        self._target = target

    def __call__(self, parameter: Tensor) -> None:
        assert parameter.grad is not None, "the hook runs when there is a gradient"
        if self._target.grad is None:
            self._target.grad = parameter.grad.float()
        else:
            self._target.grad.add_(parameter.grad)
        parameter.grad = None
