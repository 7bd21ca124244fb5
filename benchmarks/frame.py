"""The frame of every benchmark: peers in environments of their own, one JSON line per result."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("CONCORD_HOME", ROOT / ".concord")) / "bench"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of `results.jsonl`. `ours` and `peer` are in `unit`; more is better."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_version: str | None
    """Name and version of the peer, or why there is none."""
    floor_share: float | None
    """Our figure as a share of what the machine allows by the stated formula."""
    calibration: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return the JSON object: the fields, the ratio, the commit and the time."""
        ratio = round(self.ours / self.peer, 2) if self.peer else None
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        return {**asdict(self), "ratio": ratio, "commit": commit(), "measured_at": measured_at}


def report(result: Result) -> None:
    """Print the result and append it to `.concord/bench/results.jsonl`."""
    write_line(result.line(), HOME)


def write_line(line: dict[str, Any], folder: Path) -> None:
    """Print a JSON line and append it to `results.jsonl` in `folder`."""
    text = json.dumps(line)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text, flush=True)


def commit() -> str:
    """Return the commit of the working tree, with `+` where it has changes."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def peer_python(name: str, requirements: list[str]) -> Path:
    """Return the interpreter of the peer's own virtual environment, made on first use."""
    import venv  # some bare machines have none, and need none

    folder = HOME / "environments" / name
    stamp = folder / "requirements.txt"
    python = folder / "bin" / "python"
    wanted = "\n".join(requirements) + "\n"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Making the environment of {name}: {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
        stamp.write_text(wanted)
    return python


def run_child(python: Path | str, script: Path, *arguments: str) -> dict[str, Any]:
    """Run `script` with one thread and return the JSON object it prints last.

    Raises:
        RuntimeError: The script failed; the message holds the end of its error output.
    """
    environment = {**os.environ, **ONE_THREAD, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "TRANSFORMERS_VERBOSITY": "error",
    }
    command = [str(python), str(script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if result.returncode != 0:
        raise RuntimeError(f"{script.name} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]
