"""Bringing in a policy that others made: downloaded, looked at, and written as one of ours."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from language.chat import encode_prompt, encode_response
from language.hub import downloaded
from language.models import load_policy
from language.runs import RunContext
from language.templates import save_tokenizer
from language.tokenizers import load_tokenizer
from records.dialogues import Dialogue
from records.errors import ExplainedError
from records.files import folder_written_atomically
from records.import_configs import ImportConfig
from records.rundirs import RunDirectory, RunSpec

_COPIED = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


class UnusableModelError(ExplainedError):
    """A model is none that we can work with; says why."""


def import_policy(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Download a Llama of the hub and write the output `policy`: its very weights, its tokenizer.

    Nothing of it is computed with: names and shapes of its weights are compared with those that its
    config asks for. A run that is started again goes on with what was downloaded.

    Raises:
        HubError: The model cannot be had; says what to do.
        UnusableModelError: It is no Llama in safetensors, or cannot speak the chat format.
    """
    config = spec.config
    assert isinstance(config, ImportConfig), f"{type(config).__name__} is another run's"
    folder = downloaded(config.hub_name, config.revision)
    context.log(1, total_steps=2)
    try:
        weights = _checked_weights(folder)
        tokenizer = load_tokenizer(folder)
        _check_chat_format(tokenizer)
    except ValueError as error:
        raise UnusableModelError(f"{config.hub_name} cannot be used: {error}") from error
    output = run_directory.outputs / "policy"
    with folder_written_atomically(output) as temporary:
        for pattern in _COPIED:
            for item in folder.glob(pattern):
                _link_or_copy(item.resolve(), temporary / item.name)
        save_tokenizer(tokenizer, temporary)
    context.log(2, total_steps=2)
    summary = {
        "hub_name": config.hub_name,
        "commit": folder.name,
        "num_parameters": weights.num_parameters,
        "dtype": weights.dtype,
        "vocabulary_size": len(tokenizer),
    }
    run_directory.write_result(summary, {"policy": output})


class _Weights(NamedTuple):
    num_parameters: int
    dtype: str
    """As safetensors calls it."""


def _checked_weights(folder: Path) -> _Weights:
    """Return what weights a model has, without reading them.

    Raises:
        ValueError: It is no Llama, or has not every weight that its config asks for.
    """
    empty = load_policy(folder, device="meta")
    if getattr(empty.config, "quantization_config", None) is not None:
        raise ValueError("its weights are quantised; take the model they were made from")
    wanted = {name: list(tensor.shape) for name, tensor in empty.state_dict().items()}
    if empty.config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    found: dict[str, list[int]] = {}
    dtypes: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(name)
                found[name] = list(part.get_shape())
                dtypes.add(str(part.get_dtype()))
    if not found:
        raise ValueError("it has no weights as safetensors")
    if missing := sorted(wanted.keys() - found.keys()):
        raise ValueError(f"it has no weights for {', '.join(missing[:5])}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(f"{name} has shape {found[name]} where its config says {shape}")
    return _Weights(sum(p.numel() for p in empty.parameters()), "/".join(sorted(dtypes)))


def _check_chat_format(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where prompts and responses cannot be told apart in ids.

    Raises:
        ValueError: They cannot, or begin or end has no token.
    """
    encode_prompt(tokenizer, Dialogue.from_texts("hello", system="be kind"))
    encode_response(tokenizer, "hello")


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file of the cache, which nobody writes to again, a second name; or copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
