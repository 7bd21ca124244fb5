"""`python -m benchmarks.seven_b [--out FOLDER]`: without Django, PostgreSQL, Redis or a network."""

import argparse
from pathlib import Path

from benchmarks.seven_b.stages import run_stages

parser = argparse.ArgumentParser(prog="python -m benchmarks.seven_b")
parser.add_argument("--out", type=Path, help="folder whose results.jsonl the lines are added to")
run_stages(parser.parse_args().out)
