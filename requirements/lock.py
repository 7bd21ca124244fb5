"""Write `requirements/*.lock` from `requirements/*.in` with pip's own resolver."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
HEADER = "# Written by `make lock` from {name}.in. Do not edit by hand.\n"


def resolve(requirements: Path) -> list[str]:
    """Return the pinned lines pip would install for `requirements` into an empty environment.

    A local build tag such as `+cpu` is dropped: the same lock serves the CPU and the CUDA builds
    of torch, whichever the package index at hand offers.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", report.name, "-r", str(requirements)]
        subprocess.run(command, check=True)
        installs = json.loads(Path(report.name).read_text())["install"]
    packages = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in installs}
    return [f"{name}=={version.split('+')[0]}" for name, version in sorted(packages.items())]


def main() -> None:
    """Resolve every `.in` file beside this one."""
    for requirements in sorted(HERE.glob("*.in")):
        lines = resolve(requirements)
        text = HEADER.format(name=requirements.stem) + "\n".join(lines) + "\n"
        requirements.with_suffix(".lock").write_text(text)
        sys.stdout.write(f"{requirements.stem}.lock: {len(lines)} packages\n")


if __name__ == "__main__":
    main()
