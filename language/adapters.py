"""Low-rank adapters (LoRA, arXiv:2106.09685) on a Llama's projections, by peft."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from language.precision import float_trained_
from language.templates import save_tokenizer
from records.files import folder_written_atomically

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The linear maps of a decoder layer, which all get adapters."""
_MATRICES = ("lora_A", "lora_B")


def add_adapters_(
    model: PreTrainedModel, *, rank: int, alpha: int, seed: int, name: str = "default"
) -> None:
    """Freeze `model` and put adapters of `rank`, scaled by alpha / rank, on every projection.

    They change nothing yet, and are float32 whatever the model is. A scalar head, being new, stays
    trainable beside them, in float32 too. A model may have several, under names of their own;
    `use_adapter_` says which one counts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapters_(model, rank=rank, alpha=alpha, name=name)
    head = getattr(model, "score", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)
    float_trained_(model)


def inject_adapters_(
    model: nn.Module, *, rank: int, alpha: int, name: str, is_empty: bool = False
) -> None:
    """Put adapters on every projection of `model` and freeze the rest of it.

    Empty ones are on the meta device, to be given weights that are already there.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=PROJECTIONS)
    with warnings.catch_warnings():
        # Several adapters are meant; peft asks whether they are.
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, model, adapter_name=name, low_cpu_mem_usage=is_empty)
    for module in model.modules():
        if type(module) is LoraLinear:
            module.__class__ = FewPassLoraLinear


def use_adapter_(model: nn.Module, name: str | None, *, is_frozen: bool = False) -> None:
    """Let the adapters called `name` count in the passes to come, or none of them.

    These alone may then take gradients, and where they are frozen none may.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(enabled=name is not None)
            if name is not None:
                assert name in module.lora_A, f"no adapter {name}, only {', '.join(module.lora_A)}"
                module.set_adapter([name], inference_mode=is_frozen)


class FewPassLoraLinear(LoraLinear):
    """The same layer, up to rounding, with fewer passes over memory and fewer kept tensors.

    peft's computes adapters in their own type: beside a bfloat16 base it keeps inputs and outputs
    in float32. Here adapters are rounded to the base's type as they are used; what is trained, and
    its gradient, stay float32.
    """

    def forward(
        self,
        x: Tensor,
        *args: Any,  # noqa: ANN401 - peft's own
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return the projection of x (..., in) with the adapters that count."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        is_plain = not any(n in self.lora_variant or self.lora_bias.get(n) for n in names)
        if self.disable_adapters or self.merged or args or kwargs or not is_plain:
            output: Tensor = super().forward(x, *args, **kwargs)
            return output
        result: Tensor = self.base_layer(x)
        inputs = x.flatten(0, -2).to(result.dtype)
        outputs = result.flatten(0, -2)
        for name in names:
            down, up = (_matrix(self, part, name).to(result.dtype) for part in _MATRICES)
            outputs = torch.addmm(outputs, inputs @ down.t(), up.t(), alpha=self.scaling[name])
        return outputs.view(result.shape)


class LowRank(NamedTuple):
    """What adapters add to a projection: `x @ down @ up`."""

    down: Tensor
    """(in, rank)."""
    up: Tensor
    """(rank, out), scaled."""


class Projection(NamedTuple):
    """A linear layer as matrices."""

    weight: Tensor
    """(out, in)."""
    low_rank: LowRank | None
    """Of the adapters that count now, in the weight's type; None where none do."""


@torch.no_grad()
def projection_of(module: nn.Module) -> Projection | None:
    """Return a linear layer, with its adapters, as matrices; None where it is something else.

    Something else is one with a bias, quantised, or adapted by more than plain LoRA.
    """
    if type(module) is nn.Linear and module.bias is None:
        return Projection(module.weight, None)
    if not isinstance(module, LoraLinear):
        return None
    base = projection_of(module.get_base_layer())
    names = [name for name in module.active_adapters if name in module.lora_A]
    if base is None or module.disable_adapters or module.merged or not names:
        return base if not module.merged else None
    if any(name in module.lora_variant or module.lora_bias.get(name) for name in names):
        return None
    downs: list[Tensor] = [_matrix(module, "lora_A", name) for name in names]
    ups = [_matrix(module, "lora_B", name) * module.scaling[name] for name in names]
    dtype = base.weight.dtype
    low_rank = LowRank(torch.cat(downs).t().to(dtype), torch.cat(ups, dim=1).t().to(dtype))
    return Projection(base.weight, low_rank)


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
        save_tokenizer(tokenizer, temporary)


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
        weight_a, weight_b = (_matrix(module, part, name) for part in _MATRICES)
        assert isinstance(weight_a, DTensor), f"adapter {name} is whole, its layer is cut"
        assert isinstance(weight_b, DTensor), f"adapter {name} is whole, its layer is cut"
        change = (weight_b.to_local() @ weight_a.full_tensor()) * module.scaling[name]
        weight.to_local().add_(change.to(weight.dtype))


def _matrix(module: LoraLayer, part: str, name: str) -> nn.Parameter:
    """Return the weight of part `lora_A` or `lora_B` of the adapter called `name`."""
    return cast(nn.Module, module).get_parameter(f"{part}.{name}.weight")
