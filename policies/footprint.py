"""How many bytes of a process PPO's networks take for as long as a run lasts."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn
from torch.distributed.tensor import DTensor

from policies.networks import Networks


class Footprint(NamedTuple):
    """Bytes by what they are for; activations and the sampler's cache come on top."""

    weights: int
    gradients: int
    """Of the float32 weights that are trained, from a step's first backward pass to its end."""
    moments: int
    """AdamW's two for each trained weight, from the first step on."""

    @property
    def total(self) -> int:
        """All of it, as it is at a gradient step."""
        return sum(self)


def footprint_of(networks: Networks) -> Footprint:
    """Return what `networks` takes, each weight counted once however many models share it.

    Of weights that are cut, what this process holds. Nothing is read of the weights: models on the
    meta device, which have none, can be counted. Whole reward models beside them are not among the
    networks.
    """
    models = (
        networks.policy,
        networks.value_model,
        networks.reference,
        *networks.reward_models.values(),
        *(weights.master for weights in networks.weights),
    )
    held = {parameter for model in models for parameter in model.parameters()}
    trained = {*networks.policy_parameters.values(), *networks.value_parameters.values()}
    gradients = _bytes_of(trained)
    return Footprint(_bytes_of(held), gradients, 2 * gradients)


def _bytes_of(parameters: Iterable[nn.Parameter]) -> int:
    held = (p.to_local() if isinstance(p, DTensor) else p for p in parameters)
    return sum(tensor.numel() * tensor.element_size() for tensor in held)
