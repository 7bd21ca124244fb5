"""`python -m evaluation compare RUN_DIR`."""

import sys

from evaluation.comparing import compare
from language.runs import run_main

if __name__ == "__main__":
    sys.exit(run_main("evaluation", {"compare": compare}))
