"""`python -m rewardmodels train|evaluate|scale RUN_DIR` and `python -m rewardmodels score ...`."""

import sys

from language.runs import run_main
from rewardmodels.evaluating import evaluate
from rewardmodels.scaling import main as scale_main
from rewardmodels.scorefiles import main as score_main
from rewardmodels.training import train

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["score"]:
        sys.exit(score_main(arguments[1:]))
    if arguments[:1] == ["scale"]:
        sys.exit(scale_main(arguments[1:]))
    sys.exit(run_main("rewardmodels", {"train": train, "evaluate": evaluate}, arguments))
