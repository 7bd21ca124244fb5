"""Several scalar models on as few layers as they need.

Models that were trained as adapters of one base share layers. The base itself need not be at hand:
the first of them is loaded as it was merged, and another is an adapter on it that takes the first
one's away and adds its own. The first scores to the last bit as it does alone, the others up to
rounding: 1e-5 in float32, and in bfloat16 that of merging once more.
"""

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import LlamaForSequenceClassification

from language.adapters import use_adapter_
from language.kept_adapters import (
    ADAPTER_FOLDER,
    KeptAdapter,
    adapter_between,
    load_adapter_,
    read_adapter,
)
from language.scalars import HandOut, load_scalar_model, share_trunk

logger = logging.getLogger(__name__)


class _Host(NamedTuple):
    """A model whose layers others may stand on."""

    role: str
    model: LlamaForSequenceClassification
    kept: KeptAdapter


class ScalarSet:
    """Scalar models, loaded as they are added; each is handed out ready for a pass.

    Those that share layers take turns: what is handed out is for the passes until the next is.
    """

    def __init__(self, *, device: torch.device, dtype: torch.dtype) -> None:
        """Begin with none."""
        self._device, self._dtype = device, dtype
        self._hosts: list[_Host] = []
        self._added: dict[Path, HandOut] = {}

    def add(self, role: str, folder: Path) -> HandOut:
        """Return what hands out the scalar model of `folder`; say in the log how it is held.

        A folder that was added before is not loaded again. `role` is a name of its own.

        Raises:
            ValueError: The folder has no head: it holds a policy.
        """
        place = folder.resolve()
        if place not in self._added:
            kept = read_adapter(folder / ADAPTER_FOLDER)
            host = self._host_for(kept)
            if host is None or kept is None:
                self._added[place] = self._load(role, folder, kept)
            else:
                self._added[place] = _put_on(host, role, kept)
        return self._added[place]

    def _host_for(self, kept: KeptAdapter | None) -> _Host | None:
        bases = (host for host in self._hosts if kept and kept.base_digest == host.kept.base_digest)
        return next(bases, None)

    def _load(self, role: str, folder: Path, kept: KeptAdapter | None) -> HandOut:
        """Load a model of its own layers."""
        model = load_scalar_model(folder, dtype=self._dtype, device=self._device)
        model.requires_grad_(False)
        reason = "" if kept else "; it kept no adapter"
        if kept and self._hosts:
            others = ", ".join(f"{h.role}'s {h.kept.base_digest[:12]}" for h in self._hosts)
            reason = f"; its adapter was trained on {kept.base_digest[:12]}, {others}"
        num_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        text = "scalar models: %s has layers of its own, %.2f GB%s"
        logger.info(text, role, num_bytes / 1e9, reason)
        if kept is not None:
            self._hosts.append(_Host(role, model, kept))
        return partial(_handed_out, model, None)


def _put_on(host: _Host, role: str, kept: KeptAdapter) -> HandOut:
    """Put a model on the layers of another, both of which were trained on the same base."""
    change = adapter_between(host.kept.weights, kept.weights)
    load_adapter_(host.model.model, change, name=role)
    model = share_trunk(host.model)
    model.requires_grad_(False)
    model.score.weight.copy_(change.head)
    logger.info("scalar models: %s is an adapter on the layers of %s", role, host.role)
    return partial(_handed_out, model, role)


def _handed_out(
    model: LlamaForSequenceClassification, adapter: str | None
) -> LlamaForSequenceClassification:
    use_adapter_(model.model, adapter, is_frozen=True)
    return model
