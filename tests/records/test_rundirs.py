"""The run directory: what goes in comes out, and a crash leaves nothing half written."""

import subprocess
import sys
from pathlib import Path

import pytest

from records.digests import digest_path
from records.errors import RecordError
from records.files import folder_written_atomically, write_json_atomically
from records.policy_configs import PPOConfig
from records.run_configs import RunKind
from records.rundirs import RunBusyError, RunDirectory, RunInput, RunSpec

SPEC = RunSpec(
    kind=RunKind.PPO,
    config=PPOConfig(seed=3),
    inputs={"policy": RunInput(Path("/models/a"), "ab" * 32)},
    code_commit="abc",
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", SPEC)


def test_the_spec_is_read_as_it_was_written(run: RunDirectory) -> None:
    assert run.read_spec() == SPEC
    with pytest.raises(FileExistsError):
        RunDirectory.create(run.root, SPEC)


def test_an_unknown_kind_is_named(run: RunDirectory) -> None:
    path = run.root / "config.json"
    path.write_text(path.read_text().replace('"ppo"', '"dpo"'))
    with pytest.raises(RecordError, match="kind: 'dpo' is not a kind of run"):
        run.read_spec()


def test_metrics_are_followed_from_an_offset_and_half_lines_wait(run: RunDirectory) -> None:
    assert run.read_metrics() == ([], 0)
    run.append_metrics(1, {"loss": 0.5})
    rows, offset = run.read_metrics()
    assert rows == [{"step": 1, "loss": 0.5}]
    with run.metrics_path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics(offset) == ([], offset)
    with run.metrics_path.open("a") as file:
        file.write('ss": 0.25}\n')
    assert run.read_metrics(offset)[0] == [{"step": 2, "loss": 0.25}]


def test_a_resumed_run_drops_the_rows_past_its_checkpoint(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        run.append_metrics(step, {})
    _, offset = run.read_metrics()
    run.drop_metrics_after(1)
    assert [row["step"] for row in run.read_metrics(offset)[0]] == [1]


def test_infinities_never_reach_the_metrics(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        run.append_metrics(1, {"loss": float("inf")})


def test_a_failure_keeps_class_message_and_traceback_until_cleared(run: RunDirectory) -> None:
    try:
        raise RecordError("policy", "no such folder")
    except RecordError as error:
        run.write_failure(error)
    failure = run.read_failure()
    assert failure is not None
    assert failure["error"] == "RecordError"
    assert failure["message"] == "policy: no such folder"
    assert "test_rundirs" in failure["traceback"]
    run.clear_failure()
    assert run.read_failure() is None


def test_two_processes_cannot_hold_one_run(run: RunDirectory) -> None:
    script = (
        "import sys; from pathlib import Path; from records.rundirs import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", script, str(run.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:  # type: ignore[call-overload]
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError), run.locked():
            pass
        child.kill()
        child.wait()
        with run.locked():
            pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def write_and_crash() -> None:
        with folder_written_atomically(target) as folder:
            (folder / "weights").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_and_crash()
    assert list(tmp_path.iterdir()) == []
    with folder_written_atomically(target) as folder:
        (folder / "weights").write_text("whole")
    assert (target / "weights").read_text() == "whole"


def test_a_folders_digest_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        write_json_atomically(tmp_path / name / "file.json", text)
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    assert digest_path(tmp_path / "a") != digest_path(tmp_path / "c")
    (tmp_path / "a" / "file.json").rename(tmp_path / "a" / "other.json")
    assert digest_path(tmp_path / "a") != digest_path(tmp_path / "b")
