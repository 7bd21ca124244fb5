"""Checkpoints: tensors and JSON in a folder, whole or absent, verified by digest, never pickled."""

import json
import logging
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from records.digests import digest_bytes, digest_file
from records.files import folder_written_atomically, write_json_atomically

logger = logging.getLogger(__name__)

_FORMAT = 1


class Packed(NamedTuple):
    """Something's state as tensors and JSON-ready values, under the names of its prefix."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Holder(Protocol):
    """Anything with tensors and state: what was packed, or a checkpoint read back."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name."""

    @property
    def state(self) -> dict[str, Any]:
        """JSON values by name."""


class Checkpoint(NamedTuple):
    """What `save_checkpoint` wrote."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write `folder/step-<step>` and remove all but the newest `keep`; return the new folder.

    A crash at any moment leaves the earlier checkpoints as they were.

    Raises:
        ValueError: `state` is not JSON (NaN and infinities are not), or `keep` is below one.
    """
    if keep < 1:
        raise ValueError(f"keep: {keep} must be at least 1")
    path = folder / f"step-{step:08d}"
    json.dumps(state, allow_nan=False)
    with folder_written_atomically(path) as temporary:
        save_file(_owned(tensors), temporary / "tensors.safetensors")
        manifest: dict[str, Any] = {
            "format": _FORMAT,
            "step": step,
            "state": dict(state),
            "tensors_digest": digest_file(temporary / "tensors.safetensors"),
        }
        manifest["digest"] = _manifest_digest(manifest)
        write_json_atomically(temporary / "manifest.json", manifest)
    for old in _step_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path, *, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Return the newest whole checkpoint in `folder`, or None; damaged ones are logged, skipped."""
    for path in reversed(_step_folders(folder)):
        manifest = _verified_manifest(path)
        if manifest is None:
            logger.warning("checkpoint %s is damaged or of another format: skipped", path)
            continue
        tensors = load_file(path / "tensors.safetensors", device=str(device))
        return Checkpoint(manifest["step"], tensors, manifest["state"])
    return None


def combine(*parts: Packed) -> Packed:
    """Return the parts as one.

    Raises:
        ValueError: Two parts share a prefix.
    """
    tensors: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    for part in parts:
        if shared := (tensors.keys() & part.tensors.keys()) | (state.keys() & part.state.keys()):
            raise ValueError(f"parts share the names {sorted(shared)}; give each its own prefix")
        tensors |= part.tensors
        state |= part.state
    return Packed(tensors, state)


def pack_model(model: nn.Module, *, prefix: str = "model") -> Packed:
    """Return a model's weights."""
    tensors = {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
    return Packed(tensors, {prefix: {}})


def unpack_model(model: nn.Module, holder: Holder, *, prefix: str = "model") -> None:
    """Load what `pack_model` returned, all of it and nothing else."""
    names = [name for name in holder.tensors if name.startswith(f"{prefix}.")]
    model.load_state_dict({name[len(prefix) + 1 :]: holder.tensors[name] for name in names})


def pack_optimizer(optimizer: Optimizer, *, prefix: str = "optimizer") -> Packed:
    """Return an optimizer's moments as tensors and its settings as JSON."""
    whole = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in whole["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    return Packed(tensors, {prefix: {"groups": whole["param_groups"], "numbers": numbers}})


def unpack_optimizer(optimizer: Optimizer, holder: Holder, *, prefix: str = "optimizer") -> None:
    """Load what `pack_optimizer` returned into an optimizer over the same parameters."""
    stored = holder.state[prefix]
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in stored["numbers"].items()
    }
    for key, tensor in holder.tensors.items():
        if key.startswith(f"{prefix}."):
            index, name = key[len(prefix) + 1 :].split(".", 1)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": stored["groups"]})


def pack_rng(*, generator: torch.Generator | None = None, prefix: str = "rng") -> Packed:
    """Return the state of every random generator: torch, CUDA, numpy, Python, and `generator`."""
    tensors = {f"{prefix}.torch": torch.get_rng_state()}
    if generator is not None:
        tensors[f"{prefix}.generator"] = generator.get_state()
    if torch.cuda.is_available():
        for index, value in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"{prefix}.cuda.{index}"] = value
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors[f"{prefix}.numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    version, internal, gauss_next = random.getstate()
    state = {
        "numpy": [str(name), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }
    return Packed(tensors, {prefix: state})


def unpack_rng(
    holder: Holder, *, generator: torch.Generator | None = None, prefix: str = "rng"
) -> None:
    """Set every random generator to what `pack_rng` returned."""
    tensors = {key: tensor.cpu() for key, tensor in holder.tensors.items()}
    torch.set_rng_state(tensors[f"{prefix}.torch"])
    if generator is not None:
        generator.set_state(tensors[f"{prefix}.generator"])
    cuda = sorted(
        (int(key.rsplit(".", 1)[1]), tensor)
        for key, tensor in tensors.items()
        if key.startswith(f"{prefix}.cuda.")
    )
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensor for _, tensor in cuda])
    name, position, has_gauss, gauss = holder.state[prefix]["numpy"]
    keys = tensors[f"{prefix}.numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, gauss))
    version, internal, gauss_next = holder.state[prefix]["python"]
    random.setstate((version, tuple(internal), gauss_next))


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors of which no two share memory, as safetensors demands."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        value = tensor.detach().contiguous()
        address = value.untyped_storage().data_ptr()
        is_whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        if address in seen or not is_whole:
            value = value.clone()
        seen.add(address)
        owned[name] = value
    return owned


def _step_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdigit())


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return digest_bytes(json.dumps(body, sort_keys=True).encode())


def _verified_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint whose every byte is as written, else None."""
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text("utf-8"))
        is_whole = (
            manifest["format"] == _FORMAT
            and manifest["digest"] == _manifest_digest(manifest)
            and manifest["tensors_digest"] == digest_file(path / "tensors.safetensors")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if is_whole else None
