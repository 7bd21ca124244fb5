"""`python -m policies COMMAND RUN_DIR`, a command for each kind of run that makes a policy."""

import sys

from language.runs import run_main
from policies.context_distillation import context_distillation
from policies.ghost_attention import ghost_attention
from policies.importing import import_policy
from policies.ppo import ppo
from policies.pretrain import pretrain
from policies.rejection_sampling import rejection_sampling
from policies.sft import sft

COMMANDS = {
    "import": import_policy,
    "pretrain": pretrain,
    "sft": sft,
    "rejection-sampling": rejection_sampling,
    "ppo": ppo,
    "ghost-attention": ghost_attention,
    "context-distillation": context_distillation,
}

if __name__ == "__main__":
    sys.exit(run_main("policies", COMMANDS))
