"""Two processes that share a run, started as a worker starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def torchrun(
    module: str, *arguments: str, check: bool = True, timeout_seconds: float = 600.0
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS` in two processes; what went wrong is in the assertion."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
    assert not check or done.returncode == 0, done.stderr
    return done
