"""The supervisor of a run: claims it, starts its process, follows it, and settles how it ended.

Whatever is killed, the run goes on from its last checkpoint: the run's process is started again by
its supervisor; a supervisor's children die with it, its heart stops, and beat hands the run to
another worker. A Python exception in the run is nobody's accident: it fails the run at once.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from records.run_configs import RunConfig, RunKind
from records.run_kinds import COMMANDS
from records.rundirs import RunBusyError, RunDirectory
from registry import services
from registry.errors import ArtifactError, ClaimLostError, NameTakenError
from registry.models import Run
from workers import dispatch, processes
from workers.alive import worker_name
from workers.follower import MetricsFollower
from workers.lifecycle import is_stopping

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
_NO_BUSINESS_OF_RUNS = ("CONCORD_SECRET_KEY", "DATABASE_URL", "REDIS_URL")
_KILLED_BELOW_TORCHRUN = re.compile(r"^\s*exitcode\s*: -\d+", re.MULTILINE)


def execute_run(run_id: int) -> None:
    """See a run through, if there is something to claim: queued, or its supervisor lost."""
    run = services.claim_run(
        run_id=run_id,
        worker=worker_name(),
        stale_after_seconds=settings.RUN_STALE_SECONDS,
    )
    if run is None:
        return
    try:
        _Supervisor(run).see_through()
    except ClaimLostError as error:
        logger.warning("%s", error)
    if run.iteration_id is not None:
        dispatch.advance_iteration_later(run.iteration_id)


def command_of(kind: RunKind, config: RunConfig, directory: RunDirectory) -> list[str]:
    """Return the command line of a run's process, as an engineer would type it.

    There are as many processes as the config says, or, where it leaves that open, as this worker
    offers (`CONCORD_RUN_PROCESSES`). A run of one process needs no rendezvous:
    `CONCORD_RUN_LAUNCHER=direct` leaves torchrun out, whose own start costs about two seconds, and
    the run is the same.
    """
    package, command = COMMANDS[kind]
    module = ["-m", package, command, str(directory.root)]
    num_processes = config.num_processes or settings.RUN_PROCESSES
    if settings.RUN_LAUNCHER == "direct" and num_processes == 1:
        return [sys.executable, *module]
    torchrun = [
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={num_processes}",
        f"--shutdown-timeout={settings.RUN_GRACE_SECONDS}",
    ]
    return [sys.executable, "-m", *torchrun, *module]


def environment_of(config: RunConfig) -> dict[str, str]:
    """Return the environment of a run's process: no passwords, and the threads it asked for."""
    environment = {k: v for k, v in os.environ.items() if k not in _NO_BUSINESS_OF_RUNS}
    environment["PYTHONUNBUFFERED"] = "1"
    if config.num_threads:
        environment["OMP_NUM_THREADS"] = str(config.num_threads)
    return environment


class _Ending(Enum):
    """How one start of a run's process ended."""

    FINISHED = auto()
    FAILED = auto()
    KILLED = auto()
    CANCELLED = auto()
    HANDED_BACK = auto()


class _Supervisor:
    """Holds one claim on one run from its first start to its end."""

    def __init__(self, run: Run) -> None:
        assert run.claim_token is not None
        self._run = run
        self._token: UUID = run.claim_token
        self._directory: RunDirectory = run.directory
        self._log_path = self._directory.root / "log.txt"
        self._torchrun_path = self._directory.root / "torchrun"
        self._log_start = 0
        self._follower = MetricsFollower(self._directory)
        self._last_beat = time.monotonic()
        self._is_cancelled = False

    def see_through(self) -> None:
        """Start the run's process, again if it was killed, until the run has ended.

        Raises:
            ClaimLostError: Another worker has the run now; its process was killed here.
        """
        starts_left = self._run.max_attempts - self._run.attempts + 1
        while True:
            ending, exit_status = self._run_process()
            starts_left -= 1
            if ending is not _Ending.KILLED or starts_left == 0:
                break
            logger.warning("The process of run %s was killed; it is resumed", self._run.pk)
        self._settle(ending, exit_status)

    def _run_process(self) -> tuple[_Ending, int]:
        """Run the process once; return how it ended, and its exit status."""
        if self._directory.read_result() is not None:
            return _Ending.FINISHED, 0  # an earlier supervisor died before it could publish
        self._wait_for_lock()
        self._directory.clear_failure()
        self._log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
        config = self._run.typed_config
        child = processes.start_child(
            command_of(RunKind(self._run.kind), config, self._directory),
            log_path=self._log_path,
            # torchrun keeps an empty folder for each of its starts; else they pile up in /tmp.
            environment={**environment_of(config), "PET_LOG_DIR": str(self._torchrun_path)},
            folder=settings.BASE_DIR,
        )
        try:
            is_stopped = self._watch(child)
        finally:
            if child.poll() is None:
                processes.kill_tree(child)
            shutil.rmtree(self._torchrun_path, ignore_errors=True)
        return self._ending_of(child.returncode, is_stopped=is_stopped), child.returncode

    def _watch(self, child: subprocess.Popen[bytes]) -> bool:
        """Follow the process until it exits; return whether it was asked to stop."""
        kill_at: float | None = None
        while True:
            try:
                child.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self._report()
            else:
                return kill_at is not None
            now = time.monotonic()
            if kill_at is None and (self._is_cancelled or is_stopping()):
                child.terminate()
                kill_at = now + settings.RUN_GRACE_SECONDS
            elif kill_at is not None and now >= kill_at:
                processes.kill_tree(child)

    def _report(self) -> None:
        """Store fresh metrics and beat the heart; outlive a short absence of the database.

        Raises:
            ClaimLostError: The run is no longer ours, or could have been taken unnoticed.
        """
        try:
            self._store(self._follower.new_rows())
            if time.monotonic() - self._last_beat >= settings.RUN_HEARTBEAT_SECONDS:
                self._beat()
        except (OperationalError, InterfaceError):
            logger.exception("The database is away; run %s goes on meanwhile", self._run.pk)
            connection.close()
            if time.monotonic() - self._last_beat > settings.RUN_STALE_SECONDS:
                raise ClaimLostError(self._run.pk, "out of reach") from None

    def _store(self, rows: list[dict[str, Any]]) -> None:
        services.record_metrics(run=self._run, token=self._token, rows=rows)

    def _beat(self) -> None:
        self._run.refresh_from_db(fields=["state", "cancel_requested_at"])
        if not services.beat_run(run=self._run, token=self._token):
            raise ClaimLostError(self._run.pk, self._run.state)
        self._last_beat = time.monotonic()
        self._is_cancelled = self._run.cancel_requested_at is not None

    def _wait_for_lock(self) -> None:
        """Wait until no process of an earlier supervisor holds the folder.

        Raises:
            RunBusyError: One still does after the grace time.
        """
        give_up_at = time.monotonic() + settings.RUN_GRACE_SECONDS
        while True:
            try:
                with self._directory.locked():
                    return
            except RunBusyError:
                if time.monotonic() >= give_up_at:
                    raise
            time.sleep(POLL_SECONDS)
            self._report()

    def _ending_of(self, exit_status: int, *, is_stopped: bool) -> _Ending:
        if exit_status == 0 and self._directory.read_result() is not None:
            return _Ending.FINISHED
        if is_stopped:
            return _Ending.CANCELLED if self._is_cancelled else _Ending.HANDED_BACK
        if self._directory.read_failure() is None and self._is_killed(exit_status):
            return _Ending.KILLED
        return _Ending.FAILED

    def _is_killed(self, exit_status: int) -> bool:
        """Whether a signal ended the process, or one that torchrun started and reports on."""
        return exit_status < 0 or _KILLED_BELOW_TORCHRUN.search(self._log_tail()) is not None

    def _settle(self, ending: _Ending, exit_status: int) -> None:
        """Write into the row how the run ended; publishing may take long, so the heart beats on."""
        run, token = self._run, self._token
        with _beating(run, token):
            # Rows could be missed while a resumed run rewrote the file: now all of it is there.
            self._store(self._follower.every_row())
            if ending is _Ending.HANDED_BACK:
                services.release_run(run=run, token=token)
                dispatch.request_run(run.pk)
            elif ending is _Ending.CANCELLED:
                services.cancel_run_done(run=run, token=token)
            elif ending is _Ending.FINISHED:
                self._finish()
            else:
                services.fail_run(run=run, token=token, failure=self._failure(exit_status))

    def _finish(self) -> None:
        result = self._directory.read_result()
        assert result is not None
        try:
            services.finish_run(run=self._run, token=self._token, result=result)
        except (ArtifactError, NameTakenError) as error:
            failure = {
                "error": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
            services.fail_run(run=self._run, token=self._token, failure=failure)

    def _failure(self, exit_status: int) -> dict[str, str]:
        """Return what the run said of its failure; else how it died and what it printed last."""
        failure = self._directory.read_failure()
        if failure is not None:
            return failure
        if self._is_killed(exit_status):
            message = (
                f"The process was killed at each of {self._run.max_attempts} attempts, often for "
                "too little memory. Retry the run once there is more: it resumes its checkpoint."
            )
        else:
            message = (
                f"The process ended with status {exit_status}, without a result and without a "
                "failure of its own. The last lines of its log follow."
            )
        return {"error": "ProcessDiedError", "message": message, "traceback": self._log_tail()}

    def _log_tail(self) -> str:
        return processes.last_lines(self._log_path, start=self._log_start)


@contextmanager
def _beating(run: Run, token: UUID) -> Iterator[None]:
    """Beat the heart of `run` from a thread of its own while the block works."""
    is_over = threading.Event()

    def beat() -> None:
        try:
            while not is_over.wait(settings.RUN_HEARTBEAT_SECONDS):
                services.beat_run(run=run, token=token)
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"heart-of-run-{run.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
