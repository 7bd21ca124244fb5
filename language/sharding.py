"""Models cut over the processes of a run (FSDP2): each holds some rows of every weight.

Gradients and optimizer states are cut alike. A layer's weights are gathered while it computes and
let go after it, in the forward pass and again in the backward pass.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from language.distributed import all_reduce_sum_, world
from language.models import empty_llama, save_model
from language.precision import MixedWeights, cast_frozen_, enable_activation_checkpointing_

Model = TypeVar("Model", bound=PreTrainedModel)
Result = TypeVar("Result")


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

    @property
    def config(self) -> LlamaConfig:
        """The model's."""
        return cast(LlamaConfig, self.model.config)

    def forward(self, compute: Callable[[Model], Result]) -> Result:
        """Return `compute(model)`; within it, weights are whole where they are used."""
        return compute(self.model)


Policy = LlamaForCausalLM | ShardedModel[LlamaForCausalLM]
"""A policy, whole or cut over the processes."""


def compute_with(model: Model | ShardedModel[Model], compute: Callable[[Model], Result]) -> Result:
    """Return `compute` of a model, be it whole or cut over the processes: a tensor or several."""
    if isinstance(model, ShardedModel):
        result: Result = model(compute)
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


def whole_or_cut(
    model: Model, dtype: torch.dtype, device: torch.device
) -> Model | ShardedModel[Model]:
    """Return a model that is not trained: as it is in one process, cut where there are several."""
    model.requires_grad_(False)
    return ShardedModel(model, dtype, device) if world()[1] > 1 else model


def save_output(
    model: Model | ShardedModel[Model], tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write a trained model, in the type it computes in, and its tokenizer as Hugging Face does.

    A collective: the main process gathers a sharded model on its CPU, a tensor at a time, and
    writes what one process would have written.
    """
    is_main = world()[0] == 0
    with gathered(model, device=torch.device("cpu"), is_wanted=is_main) as whole:
        if is_main:
            save_model(whole, tokenizer, folder)


@contextmanager
def gathered(
    model: Model | ShardedModel[Model],
    *,
    device: torch.device | None = None,
    is_wanted: bool = True,
) -> Iterator[Model]:
    """Yield a model whole: itself, or, where it is cut, all its weights in the type it computes in.

    Gathered once, as arXiv:2307.09288, section 3.2.3, does before sampling: a sharded pass would
    gather every layer for every token. At the end the weights are let go, whoever still holds the
    model. A collective, a tensor at a time.

    Args:
        model: The model; one that is whole stays where it is.
        device: Where the weights are wanted; None for where the model computes.
        is_wanted: Whether this process wants them; else its model has a shape and no weights.
    """
    if not isinstance(model, ShardedModel):
        yield model
        return
    whole = _gathered(model, device or model.device, is_wanted=is_wanted)
    try:
        yield whole
    finally:
        nn.Module.to(whole, device="meta")


def sum_gradients_(parameters: Iterable[nn.Parameter]) -> None:
    """Add up over the processes the gradients of weights that each of them holds whole.

    Those of weights that are cut are added up as they are computed.
    """
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            all_reduce_sum_(parameter.grad)


def clip_gradients_(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients so that their norm is at most `max_norm`; return what it was.

    The norm is that of whole gradients, also where they are cut; it is not read here, which would
    wait for the device.
    """
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


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


@torch.no_grad()
def _gathered(sharded: ShardedModel[Model], device: torch.device, *, is_wanted: bool) -> Model:
    """Return the model with all weights on `device`, or, where they are not wanted, with none."""
    source = sharded.model
    plain = empty_llama(type(source), cast(LlamaConfig, source.config))
    plain.requires_grad_(False)
    whole: dict[str, Tensor] = {}
    for name, tensor in source.state_dict().items():
        # Cast before it is sent: half the bytes in bfloat16.
        own = tensor.to(sharded.dtype)
        full = own.full_tensor() if isinstance(own, DTensor) else own
        if is_wanted:
            whole[name] = full.to(device)
    plain.load_state_dict(whole, strict=is_wanted, assign=True)
    if is_wanted:
        _copy_frequencies_(plain, source, device)
    if source.can_generate():
        plain.generation_config = source.generation_config
    return plain


def _copy_frequencies_(plain: Model, source: Model, device: torch.device) -> None:
    """Give `plain` the buffers of `source`: rotary frequencies, which no state holds."""
    for name, buffer in source.named_buffers():
        owner, _, attribute = name.rpartition(".")
        setattr(plain.get_submodule(owner), attribute, buffer.to(device, copy=True))


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
