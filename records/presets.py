"""Ready-made configs of reward models: the paper's numbers by model size, and the sandbox's.

Numbers are those of arXiv:2307.09288, section 3.2.2, and of section 2.2 for the optimizer. What
the paper leaves open keeps the default that stands at the field.
"""

from collections.abc import Mapping
from types import MappingProxyType

from records.errors import RecordError
from records.preferences import Axis
from records.reward_configs import RewardModelConfig, Whole
from records.run_configs import OptimizerConfig

_LEARNING_RATES = {"rm-7b": 1e-5, "rm-13b": 1e-5, "rm-34b": 1e-5, "rm-70b": 5e-6}
SANDBOX = "rm-sandbox"
PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "rm-7b": "Llama 2 7B, as in the paper",
        "rm-13b": "Llama 2 13B, as in the paper",
        "rm-34b": "Llama 2 34B, as in the paper",
        "rm-70b": "Llama 2 70B, as in the paper",
        SANDBOX: "The sandbox's small model",
    }
)
"""What each preset is for, by its name."""


def preset(name: str, axis: Axis) -> RewardModelConfig:
    """Return the preset `name` for the reward model of `axis`.

    Raises:
        RecordError: There is no such preset.
    """
    if name == SANDBOX:
        return _sandbox(axis)
    if name not in _LEARNING_RATES:
        raise RecordError("preset", f"{name!r} is not one of {', '.join(PRESETS)}")
    return _paper(axis, _LEARNING_RATES[name])


def _paper(axis: Axis, learning_rate: float) -> RewardModelConfig:
    """Return the paper's recipe: 50/50 with all else for helpfulness, 90/10 for safety."""
    is_safety = axis is Axis.SAFETY
    return RewardModelConfig(
        axis=axis,
        whole=Whole.AXIS if is_safety else Whole.COLLECTED,
        other_axis_share=0.1 if is_safety else 0.5,
        safety_loss_weight=1.0 if is_safety else 0.0,
        num_epochs=1.0,
        pairs_per_batch=512,
        max_tokens=4096,
        optimizer=OptimizerConfig(learning_rate=learning_rate),
    )


def _sandbox(axis: Axis) -> RewardModelConfig:
    """Return what suits a model of a million weights: many large steps, Adam's usual epsilon."""
    return RewardModelConfig(
        axis=axis,
        num_threads=1,  # both axes train at once, one core each
        pairs_per_batch=16,  # a few thousand pairs are few: smaller batches take more steps
        max_tokens=256,
        safety_loss_weight=1.0 if axis is Axis.SAFETY else 0.0,
        optimizer=OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8),
    )
