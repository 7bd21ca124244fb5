"""Recorded browsers: a trace and numbered pictures of what somebody did by keyboard.

The folder is named by `CONCORD_RECORDINGS`; without it, what a test records goes with its temporary
folder. `playwright show-trace TRACE.zip` plays a trace.
"""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Keyboard, Page, Playwright
from pytest_django.live_server_helper import LiveServer

from tests.browser.conftest import ARGUMENTS, CHROMIUM, PATIENCE, WIDE, watch


class Recording:
    """One person's browser, of its own process: it can be killed, and opened anew."""

    page: Page

    def __init__(
        self, playwright: Playwright, server: LiveServer, folder: Path, complaints: list[str]
    ) -> None:
        self._playwright, self._server, self._complaints = playwright, server, complaints
        self._folder = folder
        self._num_pictures = self._num_traces = 0
        self._browser: Browser | None = None
        self._mark = ""

    @property
    def keys(self) -> Keyboard:
        """All that the person touches."""
        return self.page.keyboard

    def open(self, address: str = "/") -> None:
        """Start a browser that knows nothing of any before it, and open an address."""
        assert CHROMIUM is not None
        self._mark = f"--recording={uuid.uuid4()}"
        self._browser = self._playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*ARGUMENTS, self._mark]
        )
        context = self._browser.new_context(base_url=self._server.url, viewport=WIDE)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        context.tracing.start(screenshots=True, snapshots=True)
        self.page = context.new_page()
        watch(self.page, self._complaints)
        self.page.goto(address)

    def picture(self, name: str) -> None:
        """Take the next numbered picture."""
        self._num_pictures += 1
        path = self._folder / f"{self._num_pictures:02d}-{name}.png"
        self.page.screenshot(path=path, animations="disabled")

    def kill(self) -> None:
        """Kill every process of the browser at once, as a power cut would."""
        self._keep_trace()
        main = next(pid for pid, words in _command_lines() if self._mark in words)
        killed = [main, *_descendants_of(main)]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(_is_running(pid) for pid in killed):
            assert time.monotonic() < deadline, "the browser outlived SIGKILL"
            time.sleep(0.05)
        self._browser = None

    def close(self) -> None:
        """Keep the trace and close the browser, where one is open."""
        if self._browser is not None:
            self._keep_trace()
            self._browser.close()

    def _keep_trace(self) -> None:
        self._num_traces += 1
        path = self._folder / f"trace-{self._num_traces}.zip"
        self.page.context.tracing.stop(path=path)


def folder_for(name: str, otherwise: Path) -> Path:
    """Return an empty folder for a recording, within `CONCORD_RECORDINGS` or `otherwise`."""
    folder = Path(os.environ.get("CONCORD_RECORDINGS") or otherwise) / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("trace-*.zip")):
        old.unlink()
    return folder


def _command_lines() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_text()


def _is_running(pid: int) -> bool:
    """Whether a process is there and no zombie that its parent has not buried yet."""
    with contextlib.suppress(OSError):
        return _state_and_parent(Path(f"/proc/{pid}"))[0] != "Z"
    return False


def _state_and_parent(process: Path) -> tuple[str, int]:
    # They follow the command's name, which stands in brackets and may hold anything.
    state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def _descendants_of(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(_state_and_parent(folder)[1], []).append(int(folder.name))
    found, ahead = [], [pid]
    while ahead:
        ahead = [child for parent in ahead for child in children.get(parent, [])]
        found += ahead
    return found
