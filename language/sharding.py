"""Models cut over the processes of a run (FSDP2): each holds some rows of every weight.

Gradients and optimizer states are cut alike. A layer's weights are gathered while it computes and
let go after it, in the forward pass and again in the backward pass.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from language.distributed import world
from language.models import save_model
from language.precision import MixedWeights, cast_frozen_, enable_activation_checkpointing_

Model = TypeVar("Model", bound=PreTrainedModel)


class ShardedModel(nn.Module, Generic[Model]):
    """A model of which every process holds its rows; `forward` computes with all of it.

    Whatever `forward` computes, every process computes as often: each call gathers weights from
    all of them.

    Attributes:
        model: The model; its parameters are DTensors.
        dtype: What it computes in. Parameters that are trained, their gradients, and the sums of
            these over processes are float32; frozen parameters are in `dtype`.
        device: Where it computes.
    """

    def __init__(self, model: Model, dtype: torch.dtype, device: torch.device) -> None:
        """Take the main process's weights; the others' `model` may be on the meta device.

        Raises:
            ValueError: Two modules share a weight.
        """
        super().__init__()
        uses = model.named_parameters(remove_duplicate=False)
        if len(list(uses)) > len(list(model.parameters())):
            raise ValueError(
                "tie_word_embeddings: a model whose head is its embedding cannot be cut over "
                "several processes; save it with a head of its own, or set num_processes to 1"
            )
        self.model = model
        self.dtype = dtype
        self.device = device
        cast_frozen_(model, dtype)
        source = _tensors_of(self) if world()[0] == 0 else None
        nn.Module.to(self, device="meta")
        _cut(self, dtype, device)
        nn.Module.to_empty(self, device=device)
        _scatter_(self, source)

    def forward(self, compute: Callable[[Model], Tensor]) -> Tensor:
        """Return `compute(model)`; within it, weights are whole where they are used."""
        return compute(self.model)


def compute_with(model: Model | ShardedModel[Model], compute: Callable[[Model], Tensor]) -> Tensor:
    """Return `compute` of a model, be it whole or cut over the processes."""
    if isinstance(model, ShardedModel):
        result: Tensor = model(compute)
        if not torch.is_grad_enabled():
            # FSDP2 keeps the last weights gathered for a backward pass, which does not come here.
            cast(FSDPModule, model).reshard()
        return result
    return compute(model)


class ShardedWeights(Generic[Model]):
    """A model cut over the processes, trained and run: FSDP2 looks after both precisions.

    Attributes:
        master: Holds float32 weights and gradients: for the optimizer and for checkpoints.
        working: Computes: for forward and backward passes, reports and outputs.
    """

    def __init__(self, model: Model, dtype: torch.dtype, device: torch.device) -> None:
        self.working: ShardedModel[Model] = ShardedModel(model, dtype, device)
        self.master = self.working.model

    def refresh_(self) -> None:
        """Do nothing: what computes is gathered from the float32 weights at every pass."""


Weights = MixedWeights[Model] | ShardedWeights[Model]


def weights_of(
    model: Model, dtype: torch.dtype, device: torch.device, *, checkpoint_activations: bool = False
) -> Weights[Model]:
    """Return the weights of `model` for training in `dtype` on `device`.

    One process trains `model` as it is. Several cut it: the main process's weights count, and those
    of the others may be on the meta device.
    """
    if world()[1] > 1:
        if checkpoint_activations:
            enable_activation_checkpointing_(model)
        return ShardedWeights(model, dtype, device)
    weights = MixedWeights(model, dtype)
    if checkpoint_activations:
        enable_activation_checkpointing_(weights.working)
    return weights


def save_output(
    model: Model | ShardedModel[Model], tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write a trained model, in the type it computes in, and its tokenizer as Hugging Face does.

    A collective: the main process gathers a sharded model on its CPU, a tensor at a time, and
    writes what one process would have written.
    """
    plain = _gathered(model) if isinstance(model, ShardedModel) else model
    if world()[0] == 0:
        save_model(plain, tokenizer, folder)


def rows_held(tensor: DTensor) -> tuple[int, int]:
    """Return the first row of `tensor` that this process holds, and the one after the last."""
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return offset[0], offset[0] + shape[0]


def from_rows(rows: Tensor, like: DTensor) -> DTensor:
    """Return the tensor cut as `like`, of which this process holds `rows`."""
    return DTensor.from_local(
        rows.to(like.device),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def _gathered(sharded: ShardedModel[Model]) -> Model:
    """Return a model to be saved, all weights on the CPU; on other processes than the main, empty.

    Its rotary frequencies, which are not saved, are empty on all.
    """
    source = sharded.model
    with torch.device("meta"):
        plain = type(source)(source.config)
    whole: dict[str, Tensor] = {}
    for name, tensor in source.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world()[0] == 0:
            whole[name] = full.to("cpu", sharded.dtype)
    plain.load_state_dict(whole, strict=world()[0] == 0, assign=True)
    if source.can_generate():
        plain.generation_config = source.generation_config
    return plain


def _cut(module: ShardedModel[Model], dtype: torch.dtype, device: torch.device) -> None:
    """Cut each decoder layer, then the rest: embedding, last norm and head stay gathered together.

    Gradients are added up over processes, not averaged: losses are divided by the global count.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype is torch.float32 else dtype,
        reduce_dtype=torch.float32,
        # The embedding's output is in `dtype` already; cast inputs would be copies of no use.
        cast_forward_inputs=False,
    )
    layers = [layer for layer in module.modules() if isinstance(layer, LlamaDecoderLayer)]
    for part in (*layers, module):
        fully_shard(part, mesh=mesh, mp_policy=policy)
        cut = cast(FSDPModule, part)
        cut.set_gradient_divide_factor(1.0)
        cut.set_force_sum_reduction_for_comms(enable=True)


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, those that are not saved too."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors}


def _scatter_(module: nn.Module, source: dict[str, Tensor] | None) -> None:
    """Give each process its rows of the main process's tensors, and a copy of its buffers."""
    for name, target in _tensors_of(module).items():
        whole = source.pop(name).to(target.device) if source is not None else None
        if whole is None:
            whole = torch.empty(target.shape, dtype=target.dtype, device=target.device)
        if isinstance(target, DTensor):
            target.copy_(distribute_tensor(whole, target.device_mesh, target.placements))
        else:
            dist.broadcast(whole, src=0)
            target.copy_(whole)
