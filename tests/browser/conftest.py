"""Chromium against a live server; what the console complains of fails the test."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    expect,
    sync_playwright,
)
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from annotation.models import User
from tests.factories import make_annotator, make_lead
from workers.alive import AliveThread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 15_000
"""Milliseconds until something is given up that should be on the page: others use this machine."""
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 800}

EXPECTED = re.compile("Failed to load resource|htmx:(sendError|afterRequest|responseError)")
"""What the browser and htmx say when a connection is cut or a form is refused."""

OpenPage = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(
                pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
            )


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    # Playwright's own loop runs in this thread, and Django would refuse to use the database here.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        yield driver
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    assert CHROMIUM is not None
    launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield launched
    launched.close()


@pytest.fixture(autouse=True)
def settings_of_browser_tests(tmp_path: Path, settings: Settings) -> None:
    settings.DATA_DIR = tmp_path / "data"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer) -> Iterator[OpenPage]:
    """Return a function that opens an address in a browser of its own, signed in as `user`."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(address: str, *, user: User | None = None, **options: object) -> Page:
        context = browser.new_context(
            base_url=live_server.url,
            **{"viewport": WIDE, **options},  # type: ignore[arg-type]
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        if user is not None:
            sign_in(context, user, live_server)
        page = context.new_page()
        watch(page, complaints)
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def watch(page: Page, complaints: list[str]) -> None:
    """Note what a page and its console complain of."""
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and not EXPECTED.match(message.text)
            else None
        ),
    )


def sign_in(context: BrowserContext, user: User, live_server: LiveServer) -> None:
    """Give the browser a session of `user`."""
    client = Client()
    client.force_login(user)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value}
    context.add_cookies([{**cookie, "url": live_server.url}])  # type: ignore[typeddict-item]


@pytest.fixture
def annotator(transactional_db: None) -> User:
    return make_annotator("ana")


@pytest.fixture
def lead(transactional_db: None) -> User:
    return make_lead("maria")


@pytest.fixture
def sampler_is_alive() -> Iterator[None]:
    thread = AliveThread(["sampling"])
    thread.start()
    yield
    thread.finish()
