"""`python -m evaluation {compare,persistence} RUN_DIR`."""

import sys

from evaluation.comparing import compare
from evaluation.persistence import measure_persistence
from language.runs import run_main

if __name__ == "__main__":
    sys.exit(run_main("evaluation", {"compare": compare, "persistence": measure_persistence}))
