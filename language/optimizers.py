"""The optimizer and the learning-rate schedule of every trainer."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from records.run_configs import OptimizerConfig, Schedule


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> AdamW:
    """Return AdamW as `config` states it; vectors (the norms' weights) are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def num_warmup_steps(config: OptimizerConfig, total_steps: int) -> int:
    """Return how many steps the warm-up takes: the ratio's, at least the minimum, at most all."""
    warmup = max(config.min_warmup_steps, round(config.warmup_ratio * total_steps))
    return min(warmup, total_steps)


def learning_rate_factor(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Return the share of the highest learning rate used by the optimizer's step number `step`.

    Steps count from 0. Warm-up step k of w takes (k + 1) / w; then constant, or a cosine that would
    reach `min_learning_rate_ratio` at step `total_steps` and stays there.
    """
    warmup = num_warmup_steps(config, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule is Schedule.CONSTANT:
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    low = config.min_learning_rate_ratio
    return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * progress))


def create_schedule(optimizer: AdamW, config: OptimizerConfig, total_steps: int) -> LambdaLR:
    """Return the schedule over `total_steps`; call its `step` after each optimizer step."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(config, step, total_steps))
