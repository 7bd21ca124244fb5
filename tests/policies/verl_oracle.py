"""What verl 0.9.1 makes of some rollouts, for `test_against_verl`; run by hand, in its own place.

    python3.11 -m venv VERL && VERL/bin/pip install verl==0.9.1 torch==2.13.0
    VERL/bin/python tests/policies/verl_oracle.py

It draws ragged rows, asks verl's core algorithms, and writes both to `recorded/verl.json`. Numbers
are float64, so that another machine writes the same file up to its last digits.
"""

import json
from pathlib import Path

import torch
import verl
from torch import Tensor
from verl.trainer.ppo.core_algos import (
    compute_gae_advantage_return,
    compute_policy_loss,
    compute_value_loss,
    kl_penalty,
)
from verl.utils.torch_functional import masked_whiten

FILE = Path(__file__).parent / "recorded" / "verl.json"
LENGTHS = ((5, 1, 3), (7, 7), (2, 6, 4, 1))
SETTINGS = ((1.0, 0.95), (0.9, 0.6), (1.0, 0.0))
"""γ and λ of each case."""
CLIP, VALUE_CLIP = 0.2, 0.3
NO_SECOND_CLIP = 1e9
"""verl clips large ratios of bad tokens a second time (arXiv:1912.09729); PPO does not."""


def draw(lengths: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """Return grids of a rollout before and after some step: what models say of each token."""
    shape = (len(lengths), max(lengths))

    def normal(mean: float, deviation: float) -> Tensor:
        return mean + deviation * torch.randn(shape, generator=generator, dtype=torch.float64)

    old = normal(-2.0, 0.7)
    values = normal(0.2, 0.7)
    return {
        "old_logprobs": old,
        "reference_logprobs": old + normal(-0.1, 0.4),
        "logprobs": old + normal(0.0, 0.25),
        "values": values,
        "new_values": values + normal(0.1, 0.4),
        "rewards": normal(0.1, 0.8),
    }


def answers(grids: dict[str, Tensor], mask: Tensor, gamma: float, lam: float) -> dict[str, object]:
    """Return what verl says, with the gradients of both losses."""
    old, reference = grids["old_logprobs"], grids["reference_logprobs"]
    whitened, returns = compute_gae_advantage_return(
        grids["rewards"], grids["values"], mask, gamma, lam
    )
    logprobs = grids["logprobs"].clone().requires_grad_()
    policy_loss, clip_fraction, _, _ = compute_policy_loss(
        old, logprobs, whitened * mask, mask, cliprange=CLIP, clip_ratio_c=NO_SECOND_CLIP
    )
    values = grids["new_values"].clone().requires_grad_()
    value_loss, _ = compute_value_loss(values, returns, grids["values"], mask, VALUE_CLIP)
    torch.autograd.backward([policy_loss, value_loss])
    told = {name: kl_penalty(old, reference, name) for name in ("k1", "k2", "k3")} | {
        "returns": returns,
        "whitened_advantages": whitened,
        "whitened_rewards": masked_whiten(grids["rewards"], mask),
        "policy_gradient": logprobs.grad,
        "value_gradient": values.grad,
    }
    return {name: ragged(grid, mask) for name, grid in told.items()} | {
        "policy_loss": policy_loss.item(),
        "clip_fraction": clip_fraction.item(),
        "value_loss": value_loss.item(),
    }


def ragged(grid: Tensor, mask: Tensor) -> list[list[float]]:
    """Return the rows of a grid without their padding."""
    return [row[: int(real.sum())].tolist() for row, real in zip(grid, mask, strict=True)]


def main() -> None:
    """Write the cases and verl's answers."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for lengths, (gamma, lam) in zip(LENGTHS, SETTINGS, strict=True):
        grids = draw(lengths, generator)
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).double()
        given = {name: ragged(grid, mask) for name, grid in grids.items()}
        told = answers(grids, mask, gamma, lam)
        cases.append({"gamma": gamma, "lam": lam, "given": given, "told": told})
    settings = {"clip_range": CLIP, "value_clip_range": VALUE_CLIP}
    FILE.write_text(json.dumps({"version": verl.__version__, **settings, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
