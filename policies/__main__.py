"""`python -m policies {pretrain,sft,rejection-sampling,ppo} RUN_DIR`."""

import sys

from language.runs import run_main
from policies.ppo import ppo
from policies.pretrain import pretrain
from policies.rejection_sampling import rejection_sampling
from policies.sft import sft

COMMANDS = {
    "pretrain": pretrain,
    "sft": sft,
    "rejection-sampling": rejection_sampling,
    "ppo": ppo,
}

if __name__ == "__main__":
    sys.exit(run_main("policies", COMMANDS))
