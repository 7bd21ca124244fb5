"""Adapters kept by themselves: in memory, and as a folder in peft's format with its base's digest.

A kept adapter says something on the weights it was trained on, and nothing on others. So the folder
names these by their digest, and whoever puts it on a base compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import LlamaModel, PreTrainedModel

from language.adapters import PROJECTIONS, inject_adapters_
from language.checkpoints import StoredTensors
from records.digests import digest_bytes
from records.files import folder_written_atomically, write_json_atomically

ADAPTER_FOLDER = "adapter"
"""Where an adapter lies beside the weights that it was merged into."""

_WEIGHTS, _CONFIG, _MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
_FORMAT = 1
# Peft's names: the model stands within two wrappers, and adapters have no name of their own.
_PREFIX, _DECODER, _HEAD = "base_model.model.", "model.", "score.weight"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


class BaseMismatchError(ValueError):
    """An adapter was trained on other weights than those it is to be put on.

    Attributes:
        trained_on: Digest of the weights it was trained on.
        base: Digest of the weights at hand.
    """

    def __init__(self, owner: str, *, trained_on: str, base: str) -> None:
        super().__init__(
            f"{owner}: its adapter was trained on the weights {trained_on[:12]}, and the base's "
            f"are {base[:12]}; train it from this base"
        )
        self.trained_on = trained_on
        self.base = base


class AdapterWeights(NamedTuple):
    """Low-rank matrices of every projection and, of a scalar model, the head."""

    tensors: Mapping[str, Tensor]
    """By their path in the model, `model.layers.0.self_attn.q_proj.lora_A.weight`; float32."""
    rank: int
    alpha: int

    @property
    def head(self) -> Tensor:
        """The weights of a scalar model's head.

        Raises:
            ValueError: It is the adapter of a policy.
        """
        if _HEAD not in self.tensors:
            raise ValueError(f"{_HEAD}: this adapter has no head, it is not a scalar model's")
        return self.tensors[_HEAD]


class KeptAdapter(NamedTuple):
    """An adapter and the digest of the weights it was trained on."""

    weights: AdapterWeights
    base_digest: str


def weights_digest(folder: Path) -> str:
    """Return the digest of a model's weights as its safetensors files hold them, 64 hex digits.

    Name, type, shape and bytes of every tensor count; how many files they are cut into does not.

    Raises:
        ValueError: The folder holds no weights.
    """
    stored = StoredTensors(sorted(folder.glob("*.safetensors")), "cpu")
    lines = []
    for name in sorted(stored):
        tensor = stored[name].contiguous()
        content = digest_bytes(tensor.flatten().view(torch.uint8).numpy().tobytes())
        lines.append(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0{content}\n")
    if not lines:
        raise ValueError(f"{folder} holds no weights as safetensors")
    return digest_bytes("".join(lines).encode())


@torch.no_grad()
def adapter_weights(
    model: PreTrainedModel, *, rank: int, alpha: int, name: str = "default"
) -> AdapterWeights:
    """Return the adapters called `name` and the head, if any, copied to the CPU.

    A collective where the model is cut over several processes; all of them return the whole.
    """
    tensors = {}
    for path, parameter in model.named_parameters():
        is_own = path.endswith((f".lora_A.{name}.weight", f".lora_B.{name}.weight"))
        if is_own or path == _HEAD:
            whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            copied = whole.detach().to("cpu", torch.float32, copy=True)
            tensors[path.replace(f".{name}.weight", ".weight")] = copied
    return AdapterWeights(tensors, rank, alpha)


@torch.no_grad()
def load_adapter_(decoder: LlamaModel, weights: AdapterWeights, *, name: str) -> None:
    """Put an adapter called `name` on a decoder, in float32, beside those that are there.

    Raises:
        ValueError: It was made for a decoder of another shape.
    """
    inject_adapters_(decoder, rank=weights.rank, alpha=weights.alpha, name=name, is_empty=True)
    left = {path for path in weights.tensors if path != _HEAD}
    for path, module in decoder.named_modules():
        if isinstance(module, LoraLinear):
            for part in ("lora_A", "lora_B"):
                key = f"{_DECODER}{path}.{part}.weight"
                target = module.get_submodule(f"{part}.{name}")
                expected = target.get_parameter("weight").shape
                value = weights.tensors.get(key)
                if value is None or value.shape != expected:
                    found = "is missing" if value is None else f"has shape {list(value.shape)}"
                    raise ValueError(f"{key}: {found}; this base needs {list(expected)}")
                copied = value.to(decoder.device, torch.float32, copy=True)
                target.register_parameter("weight", nn.Parameter(copied, requires_grad=False))
                left.discard(key)
    if left:
        raise ValueError(f"{min(left)}: the base has no such projection")


def adapter_between(before: AdapterWeights, after: AdapterWeights) -> AdapterWeights:
    """Return the adapter that makes the model of `before`, merged, that of `after`, head included.

    Both were trained on the same weights. Its rank is the sum of theirs.
    """
    tensors: dict[str, Tensor] = {}
    for path, tensor in after.tensors.items():
        if path.endswith(_DOWN):
            tensors[path] = torch.cat([tensor, before.tensors[path]])
        elif path.endswith(_UP):
            scaled = tensor * (after.alpha / after.rank)
            undone = before.tensors[path] * (-before.alpha / before.rank)
            tensors[path] = torch.cat([scaled, undone], dim=1)
        else:
            tensors[path] = tensor
    rank = before.rank + after.rank
    return AdapterWeights(tensors, rank, alpha=rank)


def save_adapter(folder: Path, kept: KeptAdapter) -> None:
    """Write an adapter as peft does, and a manifest that names the weights it was trained on."""
    weights, base_digest = kept
    is_scalar = _HEAD in weights.tensors
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if is_scalar else "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": weights.rank,
        "lora_alpha": weights.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": PROJECTIONS,
        "modules_to_save": ["score"] if is_scalar else None,
    }
    tensors = {f"{_PREFIX}{path}": tensor for path, tensor in sorted(weights.tensors.items())}
    with folder_written_atomically(folder) as temporary:
        save_file(tensors, temporary / _WEIGHTS, metadata={"format": "pt"})
        write_json_atomically(temporary / _CONFIG, config)
        manifest = {"format": _FORMAT, "base_weights": base_digest}
        write_json_atomically(temporary / _MANIFEST, manifest)


def read_adapter(folder: Path) -> KeptAdapter | None:
    """Return what `save_adapter` wrote into `folder`; None where there is no such adapter.

    Raises:
        ValueError: It is of a format that this version does not know.
    """
    if not (folder / _MANIFEST).exists():
        return None
    manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    if manifest.get("format") != _FORMAT:
        raise ValueError(f"{folder}: format {manifest.get('format')!r} is not {_FORMAT}")
    config = json.loads((folder / _CONFIG).read_text("utf-8"))
    stored = load_file(folder / _WEIGHTS)
    tensors = {path.removeprefix(_PREFIX): tensor for path, tensor in stored.items()}
    weights = AdapterWeights(tensors, int(config["r"]), int(config["lora_alpha"]))
    return KeptAdapter(weights, manifest["base_weights"])


def refuse_other_base(owner: str, kept: KeptAdapter, base_digest: str) -> None:
    """Raise where `owner`'s adapter was not trained on the weights `base_digest`.

    Raises:
        BaseMismatchError: It says both digests.
    """
    if kept.base_digest != base_digest:
        raise BaseMismatchError(owner, trained_on=kept.base_digest, base=base_digest)
