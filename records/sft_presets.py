"""Ready-made configs of supervised fine-tuning: the paper's numbers, and the sandbox's.

The paper has one recipe for all sizes (arXiv:2307.09288, section 3.1): two epochs, a cosine from
2e-5, weight decay 0.1, batches of 64, rows of 4096 tokens. What it leaves open keeps the default
that stands at the field. By size only memory differs, which changes no result but rounding.
"""

from collections.abc import Mapping
from types import MappingProxyType

from records.errors import RecordError
from records.policy_configs import SFTConfig
from records.run_configs import OptimizerConfig, Schedule

_TOKENS_PER_MICROBATCH = {"sft-7b": 16384, "sft-13b": 8192, "sft-34b": 4096, "sft-70b": 4096}
SFT_SANDBOX = "sft-sandbox"
SFT_PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "sft-7b": "Llama 2 7B, as in the paper",
        "sft-13b": "Llama 2 13B, as in the paper",
        "sft-34b": "Llama 2 34B, as in the paper",
        "sft-70b": "Llama 2 70B, as in the paper",
        SFT_SANDBOX: "The sandbox's small model",
    }
)
"""What each preset is for, by its name."""


def sft_preset(name: str) -> SFTConfig:
    """Return the preset `name`.

    Raises:
        RecordError: There is no such preset.
    """
    if name == SFT_SANDBOX:
        # Small models want larger and more steps than the paper's, and Adam's usual epsilon.
        tuning = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8)
        return SFTConfig(num_epochs=2.0, batch_size=24, max_tokens=256, optimizer=tuning)
    if name not in _TOKENS_PER_MICROBATCH:
        raise RecordError("preset", f"{name!r} is not one of {', '.join(SFT_PRESETS)}")
    return SFTConfig(
        dtype="bfloat16",
        num_epochs=2.0,
        batch_size=64,
        max_tokens=4096,
        tokens_per_microbatch=_TOKENS_PER_MICROBATCH[name],
        checkpoint_activations=True,
        optimizer=OptimizerConfig(
            learning_rate=2e-5, schedule=Schedule.COSINE, weight_decay=0.1, max_grad_norm=1.0
        ),
    )
