"""How near the phases of PPO's iterations come to what the machine allows.

A phase's floor is the time that the products of its passes take at the rate of large matrices;
sampling, moreover, reads all weights once for each token of the longest response. A share of the
floor says how much quicker a phase could at best be, and which to look at first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transformers import LlamaConfig

from language.floors import Rates, llama_flops, measure_rates
from language.runs import RunContext
from policies.networks import Networks
from policies.reward_adapters import OWN_SCORE_FUNCTION
from policies.rollouts import Rollout
from records.policy_configs import PPOConfig
from records.preferences import Axis
from records.rundirs import RunSpec
from records.servers import LOCAL

Shape = Mapping[str, Any]
"""A model's sizes, as `LlamaConfig` names them."""


class Passes(NamedTuple):
    """The models whose passes an iteration takes."""

    policy: Shape
    value_model: Shape | None
    """None where it is a head on the policy's layers."""
    reward_models: Sequence[Shape]
    """None of them where something else scores."""
    is_base_frozen: bool
    """Whether adapters are trained, so that no other weight has a gradient."""


class Amount(NamedTuple):
    """How much an iteration has to do."""

    tokens: float
    """Of prompts and responses."""
    responses: float
    """Tokens of responses alone."""
    rows: float


def phase_flops(
    passes: Passes, amount: Amount, *, num_epochs: int, is_view_kept: bool
) -> dict[str, float]:
    """Return the FLOP of each phase's products.

    A backward pass takes as many for the gradients of its inputs as the forward pass, and as many
    for those of weights that are trained. Activations that are computed again count as nothing.
    `is_view_kept` says that the forward pass of the update is the one before it.
    """
    tokens, responses, rows = amount
    policy = llama_flops(passes.policy, tokens=tokens, read=responses)
    policy += 2.0 * passes.policy["hidden_size"] * passes.policy["vocab_size"] * responses
    both = policy
    if passes.value_model is not None:
        both += llama_flops(passes.value_model, tokens=tokens, read=responses)
    num_passes = (0 if is_view_kept else 1) + (1 if passes.is_base_frozen else 2)
    return {
        "generate": policy,
        "score": sum(llama_flops(s, tokens=tokens, read=rows) for s in passes.reward_models),
        "reference": policy,
        "logprobs": both,
        "update": num_epochs * num_passes * both,
    }


class PhaseFloors:
    """The floors of a run's iterations on this machine, as it was when the run began."""

    def __init__(
        self, passes: Passes, rates: Rates, *, weight_bytes: int, is_sampled_here: bool = True
    ) -> None:
        """Take what all processes reach together, and the bytes of the policy's weights."""
        self._passes, self._rates = passes, rates
        self._weight_bytes, self._is_sampled_here = weight_bytes, is_sampled_here

    def shares(
        self, rollout: Rollout, laps: Mapping[str, float], *, num_epochs: int, is_view_kept: bool
    ) -> dict[str, float]:
        """Return `floor_share_<phase>` for each phase whose work is known and was timed in `laps`.

        1 would be as quick as the machine is. A neighbour who left since the run began can make it
        more.
        """
        rows = rollout.rows
        amount = Amount(sum(row.num_tokens for row in rows), len(rollout.place_M), len(rows))
        flops = phase_flops(self._passes, amount, num_epochs=num_epochs, is_view_kept=is_view_kept)
        floors = {phase: count / self._rates.flops for phase, count in flops.items() if count}
        longest = rollout.response_mask_BR.shape[1]
        reading = longest * self._weight_bytes / self._rates.num_bytes
        floors["generate"] = max(floors["generate"], reading)
        if not self._is_sampled_here:
            del floors["generate"]
        shares = {}
        for phase, floor in floors.items():
            seconds = laps[f"seconds_{phase}"]
            if seconds > 0.0:
                shares[f"floor_share_{phase}"] = round(floor / seconds, 4)
        return shares


def measure_floors(
    spec: RunSpec, config: PPOConfig, context: RunContext, networks: Networks
) -> PhaseFloors:
    """Return the floors of a run's iterations; times a few products for it."""
    own = measure_rates(context.device, context.dtype)
    value_model = None if networks.is_trunk_shared else networks.value_model.config.to_dict()
    paths = {spec.inputs[axis.value].path.resolve() for axis in Axis}
    scorers = paths if config.score_function == OWN_SCORE_FUNCTION else ()
    passes = Passes(
        networks.policy.config.to_dict(),
        value_model,
        [LlamaConfig.from_pretrained(path).to_dict() for path in scorers],
        is_base_frozen=networks.has_adapters,
    )
    policy = networks.policy.config
    return PhaseFloors(
        passes,
        Rates(own.flops * context.world_size, own.num_bytes),
        weight_bytes=_num_weights(policy) * context.dtype.itemsize,
        is_sampled_here=config.engine == LOCAL,
    )


def _num_weights(config: LlamaConfig) -> int:
    """Return how many weights a step of sampling multiplies by, the output layer's included."""
    of_layers = llama_flops(config.to_dict(), tokens=1, read=1) / 2  # a product and a sum each
    return int(of_layers) + config.hidden_size * config.vocab_size
