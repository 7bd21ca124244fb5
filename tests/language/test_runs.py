"""How runs start, stop, resume and fail: as real child processes."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from language.runs import RunContext, run_main
from records.policy_configs import SFTConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunSpec
from tests.language.running import TOTAL_STEPS, count, fail

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"count": count, "fail": fail}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    config = SFTConfig(seed=7, num_threads=1, device="cpu")
    spec = RunSpec(kind=RunKind.SFT, config=config, inputs={}, code_commit="")
    return RunDirectory.create(tmp_path / "run", spec)


def start(directory: RunDirectory, *launcher: str, sleep: float = 0.0) -> "subprocess.Popen[str]":
    """Start the counting run as a child process."""
    command = [*launcher, "-m", "tests.language.running", "count"]
    environment = {**os.environ, "SLEEP_SECONDS": str(sleep), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(directory.root)],
        cwd=ROOT,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def wait_for_rows(directory: RunDirectory, num: int) -> None:
    deadline = time.monotonic() + 60
    while len(directory.read_metrics()[0]) < num:
        assert time.monotonic() < deadline, "the run wrote no metrics"
        time.sleep(0.02)


def _read(terminal: int) -> bytes:
    """Return what is shown next; nothing once the child has closed the terminal."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def totals(directory: RunDirectory) -> list[tuple[int, float]]:
    return [(row["step"], row["total"]) for row in directory.read_metrics()[0]]


def test_a_run_logs_its_steps_and_writes_its_result(directory: RunDirectory) -> None:
    status = run_main("test", COMMANDS, ["count", str(directory.root)])

    rows, _ = directory.read_metrics()
    result = directory.read_result()
    assert status == 0
    assert [row["step"] for row in rows] == list(range(1, TOTAL_STEPS + 1))
    assert set(rows[0]) == {"step", "total", "total_steps", "seconds"}
    assert result is not None
    assert result["summary"] == {"total": rows[-1]["total"], "processes": 1}


def test_a_terminal_sees_a_bar_and_where_the_result_lies(directory: RunDirectory) -> None:
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 80))
    command = [sys.executable, "-m", "tests.language.running", "count", str(directory.root)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=inner)
    os.close(inner)
    shown = b"".join(iter(partial(_read, outer), b"")).decode()
    assert process.wait(timeout=60) == 0
    assert f"{TOTAL_STEPS}/{TOTAL_STEPS}" in shown
    assert f"finished: {directory.root / 'result.json'}" in shown


def test_where_nobody_watches_there_is_no_bar(directory: RunDirectory) -> None:
    _, told = start(directory, sys.executable).communicate(timeout=60)
    assert told == f"finished: {directory.root / 'result.json'}\n"


def test_equal_seeds_give_equal_runs(directory: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory.create(tmp_path / "other", directory.read_spec())
    torch.rand(5)

    run_main("test", COMMANDS, ["count", str(directory.root)])
    run_main("test", COMMANDS, ["count", str(other.root)])

    assert totals(directory) == totals(other)


def test_a_failure_is_written_for_the_runs_page(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run_main("test", COMMANDS, ["fail", str(directory.root)])

    failure = directory.read_failure()
    assert status == 1
    assert failure is not None
    assert failure["error"] == "ValueError"
    assert failure["message"] == "num_layers: 7 is one too many"
    assert "in fail" in failure["traceback"]
    assert capsys.readouterr().err == "ValueError: num_layers: 7 is one too many\n"


def test_a_config_that_breaks_a_bound_is_a_failure_that_names_the_field(
    directory: RunDirectory,
) -> None:
    path = directory.root / "config.json"
    data = json.loads(path.read_text())
    data["config"]["num_epochs"] = -1.0
    path.write_text(json.dumps(data))

    status = run_main("test", COMMANDS, ["count", str(directory.root)])

    failure = directory.read_failure()
    assert status == 1
    assert failure is not None
    assert failure["error"] == "RecordError"
    assert failure["message"].startswith("num_epochs: -1.0")


def test_a_new_attempt_forgets_the_failure_before(directory: RunDirectory) -> None:
    directory.write_failure(ValueError("before"))

    assert run_main("test", COMMANDS, ["count", str(directory.root)]) == 0

    assert directory.read_failure() is None


def test_a_directory_in_use_is_left_alone(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with directory.locked():
        status = run_main("test", COMMANDS, ["count", str(directory.root)])

    assert status == 75
    assert "is held by another process" in capsys.readouterr().err
    assert directory.read_failure() is None
    assert directory.read_metrics()[0] == []


def test_signal_handlers_are_put_back(directory: RunDirectory) -> None:
    before = signal.getsignal(signal.SIGTERM)

    run_main("test", COMMANDS, ["count", str(directory.root)])

    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_command_is_refused_with_usage(directory: RunDirectory) -> None:
    with pytest.raises(SystemExit) as error:
        run_main("test", COMMANDS, ["nothing", str(directory.root)])

    assert error.value.code == 2


def test_a_directory_made_by_hand_needs_a_config_and_no_more(
    directory: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(SystemExit):
        run_main("test", COMMANDS, ["count", str(tmp_path / "own")])
    assert "holds no config.json" in capsys.readouterr().err

    shutil.copy(directory.root / "config.json", tmp_path / "own")
    assert run_main("test", COMMANDS, ["count", str(tmp_path / "own")]) == 0
    assert RunDirectory(tmp_path / "own").outputs.is_dir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_same_numbers(
    directory: RunDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    whole = RunDirectory.create(tmp_path / "whole", directory.read_spec())
    run_main("test", COMMANDS, ["count", str(whole.root)])
    capsys.readouterr()

    interrupted = {"count": partial(count, interrupt_at=5, number=number)}
    stopped = run_main("test", interrupted, ["count", str(directory.root)])
    assert stopped == 130
    assert capsys.readouterr().err == "test count: stopped on request\n"
    assert totals(directory) == totals(whole)[:5]
    assert directory.read_result() is None

    assert run_main("test", COMMANDS, ["count", str(directory.root)]) == 0
    assert totals(directory) == totals(whole)
    assert directory.read_result() == whole.read_result()


def test_metrics_that_json_cannot_hold_become_none(directory: RunDirectory) -> None:
    context = RunContext(directory, directory.read_spec().config)

    context.log(1, loss=float("nan"), ratio=float("inf"), reward=1.5, name="x")

    (row,), _ = directory.read_metrics()
    assert (row["loss"], row["ratio"], row["reward"], row["name"]) == (None, None, 1.5, "x")


def test_only_the_main_process_logs(directory: RunDirectory) -> None:
    context = RunContext(directory, directory.read_spec().config, rank=1, world_size=2)

    context.log(1, loss=0.0)

    assert not context.is_main
    assert directory.read_metrics()[0] == []


def torchrun(processes: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", f"--nproc-per-node={processes}"),
    )


def test_two_processes_share_a_run_and_stop_at_the_same_step(directory: RunDirectory) -> None:
    child = start(directory, *torchrun(2), sleep=0.05)
    wait_for_rows(directory, 3)
    child.terminate()
    child.communicate(timeout=120)

    steps = [path.name for path in directory.checkpoints.iterdir()]
    assert steps == [f"step-{totals(directory)[-1][0]:08d}"]
    assert directory.read_failure() is None

    child = start(directory, *torchrun(2))
    _, errors = child.communicate(timeout=120)
    result = directory.read_result()
    assert child.returncode == 0, errors
    assert result is not None
    assert result["summary"]["processes"] == 2
    assert [step for step, _ in totals(directory)] == list(range(1, TOTAL_STEPS + 1))


def test_training_dies_with_its_launcher(directory: RunDirectory) -> None:
    child = start(directory, *torchrun(1), sleep=0.2)
    wait_for_rows(directory, 2)

    child.kill()
    child.communicate(timeout=30)

    with directory.locked():  # the worker process is gone, so the lock is free
        rows = directory.read_metrics()[0]
        time.sleep(0.5)
        assert directory.read_metrics()[0] == rows
        assert len(rows) < TOTAL_STEPS
