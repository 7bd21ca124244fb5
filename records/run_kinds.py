"""Each kind of run with its config class and its command."""

from records.import_configs import ImportConfig
from records.instruction_configs import (
    ContextDistillationConfig,
    GhostAttentionConfig,
    PersistenceConfig,
)
from records.policy_configs import (
    EvaluationConfig,
    PPOConfig,
    PretrainConfig,
    RejectionSamplingConfig,
    SFTConfig,
)
from records.reward_configs import RewardEvaluationConfig, RewardModelConfig
from records.run_configs import RunConfig, RunKind

CONFIGS: dict[RunKind, type[RunConfig]] = {
    RunKind.IMPORT: ImportConfig,
    RunKind.PRETRAIN: PretrainConfig,
    RunKind.SFT: SFTConfig,
    RunKind.REWARD_MODEL: RewardModelConfig,
    RunKind.REWARD_EVALUATION: RewardEvaluationConfig,
    RunKind.REJECTION_SAMPLING: RejectionSamplingConfig,
    RunKind.PPO: PPOConfig,
    RunKind.GHOST_ATTENTION: GhostAttentionConfig,
    RunKind.CONTEXT_DISTILLATION: ContextDistillationConfig,
    RunKind.EVALUATION: EvaluationConfig,
    RunKind.PERSISTENCE: PersistenceConfig,
}
COMMANDS: dict[RunKind, tuple[str, str]] = {
    RunKind.IMPORT: ("policies", "import"),
    RunKind.PRETRAIN: ("policies", "pretrain"),
    RunKind.SFT: ("policies", "sft"),
    RunKind.REWARD_MODEL: ("rewardmodels", "train"),
    RunKind.REWARD_EVALUATION: ("rewardmodels", "evaluate"),
    RunKind.REJECTION_SAMPLING: ("policies", "rejection-sampling"),
    RunKind.PPO: ("policies", "ppo"),
    RunKind.GHOST_ATTENTION: ("policies", "ghost-attention"),
    RunKind.CONTEXT_DISTILLATION: ("policies", "context-distillation"),
    RunKind.EVALUATION: ("evaluation", "compare"),
    RunKind.PERSISTENCE: ("evaluation", "persistence"),
}
"""`python -m <package> <command> RUN_DIR` for each kind of run."""
