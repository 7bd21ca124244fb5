"""The run directory: the whole interface between whoever starts a run and the run itself.

`config.json` goes in; `metrics.jsonl`, `checkpoints/`, `outputs/` and `result.json` (or
`failure.json`) come out. Nothing else passes between the two worlds.
"""

import fcntl
import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from records.errors import ExplainedError, RecordError
from records.files import write_json_atomically
from records.run_configs import RunConfig, RunKind
from records.run_kinds import CONFIGS


class RunInput(NamedTuple):
    """One thing a run reads: where it lies and the digest it had when the run was made."""

    path: Path
    digest: str


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What a run is asked to do."""

    kind: RunKind
    config: RunConfig
    inputs: Mapping[str, RunInput]
    code_commit: str


class RunBusyError(RuntimeError):
    """Another process is writing to this run directory."""


class RunDirectory:
    """One run's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line: `step`, then the metrics of that step."""
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-00000010` folders."""
        return self.root / "checkpoints"

    @property
    def outputs(self) -> Path:
        """Folder of what the run made, one entry per output name."""
        return self.root / "outputs"

    @classmethod
    def create(cls, root: Path, spec: RunSpec) -> "RunDirectory":
        """Make the folder and write `config.json`.

        Raises:
            FileExistsError: The folder already holds a run.
        """
        if (root / "config.json").exists():
            raise FileExistsError(f"{root} already holds a run")
        directory = cls(root)
        directory.make_folders()
        inputs = {
            role: {"path": str(i.path), "digest": i.digest} for role, i in spec.inputs.items()
        }
        data = {"kind": spec.kind.value, "config": spec.config.to_json(), "inputs": inputs}
        write_json_atomically(root / "config.json", {**data, "code_commit": spec.code_commit})
        return directory

    def make_folders(self) -> None:
        """Make the folders that a run writes into, which one made by hand has not."""
        for folder in (self.checkpoints, self.outputs):
            folder.mkdir(parents=True, exist_ok=True)

    def read_spec(self) -> RunSpec:
        """Return what `create` wrote.

        Raises:
            RecordError: The config is not valid; the message names the field.
        """
        data = json.loads((self.root / "config.json").read_text(encoding="utf-8"))
        try:
            kind = RunKind(data["kind"])
        except ValueError:
            raise RecordError("kind", f"{data['kind']!r} is not a kind of run") from None
        inputs = {r: RunInput(Path(i["path"]), i["digest"]) for r, i in data["inputs"].items()}
        config = CONFIGS[kind].from_json(data["config"])
        return RunSpec(kind=kind, config=config, inputs=inputs, code_commit=data["code_commit"])

    def append_metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one row and hand it to the operating system at once."""
        line = json.dumps({"step": step, **values}, allow_nan=False) + "\n"
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(line)

    def read_metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return the whole rows after byte `offset`, and the offset to go on from.

        When the file has become shorter (a resumed run drops rows past its checkpoint), reading
        starts again from the beginning.
        """
        if not self.metrics_path.exists():
            return [], 0
        if self.metrics_path.stat().st_size < offset:
            offset = 0
        with self.metrics_path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        rows = [json.loads(line) for line in data[:end].splitlines()]
        return rows, offset + end

    def drop_metrics_after(self, step: int) -> None:
        """Remove the rows of steps beyond `step`: a resumed run writes them again."""
        rows, _ = self.read_metrics()
        kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
        self.metrics_path.write_text("".join(kept), encoding="utf-8")

    def write_result(self, summary: Mapping[str, Any], outputs: Mapping[str, Path]) -> None:
        """Write `result.json`: the run is finished and its `outputs` (name to path) are whole."""
        relative = {name: str(path.relative_to(self.root)) for name, path in outputs.items()}
        write_json_atomically(
            self.root / "result.json", {"summary": dict(summary), "outputs": relative}
        )

    def read_result(self) -> dict[str, Any] | None:
        """Return `{"summary": ..., "outputs": {name: path}}`, or None while there is no result."""
        path = self.root / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write_failure(self, error: BaseException) -> None:
        """Write `failure.json` with class, message and traceback, for the run's page.

        An error whose message explains it needs no traceback.
        """
        is_explained = isinstance(error, ExplainedError)
        text = "" if is_explained else "".join(traceback.format_exception(error))
        failure = {"error": type(error).__name__, "message": str(error), "traceback": text}
        write_json_atomically(self.root / "failure.json", failure)

    def read_failure(self) -> dict[str, str] | None:
        """Return what `write_failure` wrote, or None."""
        path = self.root / "failure.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def clear_failure(self) -> None:
        """Forget the failure of an earlier attempt."""
        (self.root / "failure.json").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing; the lock goes when the process does.

        Raises:
            RunBusyError: Another process holds it.
        """
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunBusyError(f"{self.root} is held by another process") from error
            yield
