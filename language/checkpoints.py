"""Checkpoints: tensors and JSON in a folder, whole or absent, verified by digest, never pickled.

Where several processes share a run, each writes a file with the rows that it holds of every tensor.
Any number of processes may read them: the files' rows, one after another, are the tensor.
"""

import json
import logging
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from language.distributed import barrier, gather_objects, shard, world
from language.sharding import from_rows, rows_held
from records.digests import digest_bytes, digest_file
from records.files import folder_written_atomically, sync_file, write_json_atomically

logger = logging.getLogger(__name__)

_FORMAT = 2


class Packed(NamedTuple):
    """Something's state as tensors and JSON-ready values, under the names of its prefix."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Holder(Protocol):
    """Anything with tensors and state: what was packed, or a checkpoint read back."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors by name."""

    @property
    def state(self) -> dict[str, Any]:
        """JSON values by name."""


class StoredTensors(Mapping[str, Tensor]):
    """The tensors in a checkpoint's files, read when they are asked for."""

    def __init__(self, paths: Sequence[Path], device: torch.device | str) -> None:
        # safetensors says nothing of its types.
        self._files: list[Any] = [
            safe_open(path, framework="pt", device=str(device)) for path in paths
        ]
        self._places: dict[str, list[int]] = {}
        for index, file in enumerate(self._files):
            for name in file.keys():  # noqa: SIM118 - not a mapping
                self._places.setdefault(name, []).append(index)

    def __getitem__(self, name: str) -> Tensor:
        parts: list[Tensor] = [self._files[place].get_tensor(name) for place in self._places[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Return the rows [start, end) of a tensor, reading no others."""
        parts: list[Tensor] = []
        before = 0
        for place in self._places[name]:
            part = self._files[place].get_slice(name)
            length = part.get_shape()[0]
            low, high = max(start - before, 0), min(end - before, length)
            if low < high or (start == end and not parts):
                parts.append(part[low : max(low, high)] if length else part[:])
            before += length
        assert before >= end, f"{name} has {before} rows, not {end}"
        return torch.cat(parts)


class Checkpoint(NamedTuple):
    """What `save_checkpoint` or `save_shards` wrote."""

    step: int
    tensors: StoredTensors
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
    path = _step_folder(folder, step)
    json.dumps(state, allow_nan=False)
    with folder_written_atomically(path) as temporary:
        digest = _write_tensors(temporary / "tensors.safetensors", tensors)
        _write_manifest(temporary, step, state, {"tensors.safetensors": digest})
    _remove_all_but(keep, folder)
    return path


def save_shards(
    folder: Path, *, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint of which each process writes its rows; a collective.

    Tensors that are not cut, and the state, are the main process's. With one process this is
    `save_checkpoint`.
    """
    rank, num_processes = world()
    if num_processes == 1:
        save_checkpoint(folder, step=step, tensors=tensors, state=state)
        return
    own = {
        name: tensor.to_local() if isinstance(tensor, DTensor) else tensor
        for name, tensor in tensors.items()
        if rank == 0 or isinstance(tensor, DTensor)
    }
    name = f"tensors-{rank + 1:05d}-of-{num_processes:05d}.safetensors"
    with ExitStack() as stack:
        temporary = Path()
        if rank == 0:
            temporary = stack.enter_context(folder_written_atomically(_step_folder(folder, step)))
        temporary = gather_objects(temporary)[0]
        digests = gather_objects((name, _write_tensors(temporary / name, own)))
        if rank == 0:
            _write_manifest(temporary, step, state, dict(digests))
    if rank == 0:
        _remove_all_but(2, folder)
    barrier()


def latest_checkpoint(folder: Path, *, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Return the newest whole checkpoint in `folder`, or None; damaged ones are logged, skipped.

    Where there are several processes this is a collective: each verifies some of the files.
    """
    for path in reversed(gather_objects(_step_folders(folder))[0]):
        manifest = _verified_manifest(path)
        is_whole = all(gather_objects(manifest is not None))
        if manifest is None or not is_whole:
            logger.warning("checkpoint %s is damaged or of another format: skipped", path)
            continue
        tensors = StoredTensors([path / name for name in sorted(manifest["files"])], device)
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
    targets = model.state_dict()
    state = {}
    for name in names:
        own_name = name[len(prefix) + 1 :]
        state[own_name] = _cut_like(holder.tensors, name, targets.get(own_name))
    model.load_state_dict(state)


def pack_parameters(parameters: Mapping[str, nn.Parameter], *, prefix: str) -> Packed:
    """Return some parameters by name, such as those of a model that are trained."""
    tensors = {f"{prefix}.{name}": p.detach() for name, p in parameters.items()}
    return Packed(tensors, {prefix: {}})


@torch.no_grad()
def unpack_parameters_(
    parameters: Mapping[str, nn.Parameter], holder: Holder, *, prefix: str
) -> None:
    """Set `parameters` to what `pack_parameters` returned."""
    for name, parameter in parameters.items():
        parameter.copy_(_cut_like(holder.tensors, f"{prefix}.{name}", parameter))


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
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key in holder.tensors:
        if key.startswith(f"{prefix}."):
            index, name = key[len(prefix) + 1 :].split(".", 1)
            # AdamW's count of steps is a number; its moments are cut as their parameter is.
            like = None if name == "step" else parameters[int(index)]
            state.setdefault(int(index), {})[name] = _cut_like(holder.tensors, key, like)
    optimizer.load_state_dict({"state": state, "param_groups": stored["groups"]})


def pack_rng(*, generator: torch.Generator | None = None, prefix: str = "rng") -> Packed:
    """Return the state of every random generator: torch, CUDA, numpy, Python, and `generator`.

    CUDA's is that of this process's own device.
    """
    tensors = {f"{prefix}.torch": torch.get_rng_state()}
    if generator is not None:
        tensors[f"{prefix}.generator"] = generator.get_state()
    if torch.cuda.is_available():
        tensors[f"{prefix}.cuda"] = torch.cuda.get_rng_state()
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
    tensors = {
        key: holder.tensors[key].cpu() for key in holder.tensors if key.startswith(f"{prefix}.")
    }
    torch.set_rng_state(tensors[f"{prefix}.torch"])
    if generator is not None:
        generator.set_state(tensors[f"{prefix}.generator"])
    if f"{prefix}.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[f"{prefix}.cuda"])
    name, position, has_gauss, gauss = holder.state[prefix]["numpy"]
    keys = tensors[f"{prefix}.numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, gauss))
    version, internal, gauss_next = holder.state[prefix]["python"]
    random.setstate((version, tuple(internal), gauss_next))


def pack_every_rng(*, generator: torch.Generator) -> list[Packed]:
    """Return the random generators of every process, each under a prefix of its own; a collective.

    `generator` is the context's.
    """
    return gather_objects(pack_rng(generator=generator, prefix=_rng_name(world()[0])))


def unpack_own_rng(holder: Holder, *, generator: torch.Generator) -> None:
    """Set this process's random generators to what `pack_every_rng` returned of them.

    A process that an earlier attempt did not have takes those of the first one.
    """
    own, first = _rng_name(world()[0]), _rng_name(0)
    unpack_rng(holder, generator=generator, prefix=own if own in holder.state else first)


def _rng_name(rank: int) -> str:
    return f"rng.{rank}"


def _cut_like(tensors: Mapping[str, Tensor], name: str, like: Tensor | None) -> Tensor:
    """Return a tensor, or the rows of it that this process holds where `like` is cut."""
    if not isinstance(like, DTensor):
        return tensors[name]
    start, end = rows_held(like)
    if isinstance(tensors, StoredTensors):
        return from_rows(tensors.rows(name, start, end), like)
    return from_rows(tensors[name][start:end], like)


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


def _step_folder(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _step_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdigit())


def _remove_all_but(keep: int, folder: Path) -> None:
    for old in _step_folders(folder)[:-keep]:
        shutil.rmtree(old)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a file, on disk when this returns, and return its digest."""
    save_file(_owned(tensors), path)
    sync_file(path)
    return digest_file(path)


def _write_manifest(
    folder: Path, step: int, state: Mapping[str, Any], files: Mapping[str, str]
) -> None:
    manifest: dict[str, Any] = {
        "format": _FORMAT,
        "step": step,
        "state": dict(state),
        "files": dict(files),
    }
    manifest["digest"] = _manifest_digest(manifest)
    write_json_atomically(folder / "manifest.json", manifest)


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return digest_bytes(json.dumps(body, sort_keys=True).encode())


def _verified_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint whose every byte is as written, else None.

    Of several processes each looks at its share of the files.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text("utf-8"))
        is_whole = (
            manifest["format"] == _FORMAT
            and manifest["digest"] == _manifest_digest(manifest)
            and all(
                digest_file(path / name) == manifest["files"][name]
                for name in shard(sorted(manifest["files"]), *world())
            )
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if is_whole else None
