"""A browser without JavaScript: one connection, cookies, redirects, and the forms of a page."""

import http.client
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 60.0
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}
)
_BLOCKS = frozenset(
    {"p", "li", "pre", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "br"}
)


class BrowserError(RuntimeError):
    """A page that is not what the browser's user came for."""


@dataclass
class Form:
    """A form as it stands on a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    """What is sent if nothing is changed: hidden and typed values, boxes that are ticked."""
    choices: dict[str, list[str]] = field(default_factory=dict)
    """The values that radio buttons and menus offer, in their order."""


class Block(NamedTuple):
    """The rendered text of one person's or model's words, and the element it stands in."""

    css: str
    """Classes of the article around it."""
    text: str


@dataclass
class Page:
    """A page as it was answered."""

    status: int
    path: str
    """Where redirects have led."""
    forms: list[Form]
    links: list[str]
    blocks: list[Block]
    seconds: float
    """From the first byte sent to the last one read, redirects included; parsing is not in it."""

    def form(self, action_end: str) -> Form:
        """Return the first form whose address ends so.

        Raises:
            BrowserError: There is none.
        """
        found = self.find_form(action_end)
        if found is None:
            actions = ", ".join(form.action for form in self.forms) or "none"
            raise BrowserError(f"{self.path} ({self.status}) has no form {action_end}: {actions}")
        return found

    def find_form(self, action_end: str) -> Form | None:
        """Return the first form whose address ends so, or None."""
        return next((form for form in self.forms if form.action.endswith(action_end)), None)


class Browser:
    """One person's browser. Not for several threads at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname:
            raise ValueError(f"url {url!r} is not http:// or https:// with a host")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
        self._cookies: dict[str, str] = {}
        self._referer = ""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def sign_in(self, username: str, password: str) -> Page:
        """Sign in through the form.

        Raises:
            BrowserError: The name or the password is refused.
        """
        form = self.get("/sign-in/").form("/sign-in/")
        page = self.submit(form, username=username, password=password)
        if page.find_form("/sign-in/") is not None:
            raise BrowserError(f"{username} cannot sign in: name or password is refused")
        return page

    def get(self, path: str) -> Page:
        """Open a page."""
        return self._follow("GET", path, None)

    def submit(self, form: Form, **changes: str) -> Page:
        """Send a form with some fields filled in, and return the page after it."""
        return self._follow(form.method, form.action, {**form.fields, **changes})

    def _follow(self, method: str, path: str, fields: Mapping[str, str] | None) -> Page:
        started = time.perf_counter()
        for _ in range(MAX_REDIRECTS):
            status, location, body = self._send(method, path, fields)
            if location is None:
                seconds = time.perf_counter() - started
                return _parse(status, path, body, seconds)
            target = urljoin(f"{self._origin}{path}", location)
            if not target.startswith(f"{self._origin}/"):
                raise BrowserError(f"{path} leads to another site: {target}")
            method, path, fields = "GET", target.removeprefix(self._origin), None
        raise BrowserError(f"{path} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self, method: str, path: str, fields: Mapping[str, str] | None
    ) -> tuple[int, str | None, str]:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            "Accept": "text/html",
            "Referer": self._referer or self._origin,
            "Origin": self._origin,
        }
        body = None
        if fields is not None and method == "POST":
            body = urllib.parse.urlencode(fields)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif fields:
            path = f"{path.partition('?')[0]}?{urllib.parse.urlencode(fields)}"
        self._connection.request(method, path, body, headers)
        with closing(self._connection.getresponse()) as response:
            text = response.read().decode()
            for cookie in response.headers.get_all("Set-Cookie") or ():
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
            self._referer = f"{self._origin}{path}"
            location = response.headers["Location"] if 300 <= response.status < 400 else None
            return response.status, location, text


def _parse(status: int, path: str, body: str, seconds: float) -> Page:
    reader = _Reader(path)
    reader.feed(body)
    reader.close()
    return Page(status, path, reader.forms, reader.links, reader.blocks, seconds)


class _Reader(HTMLParser):
    """Collects forms, links, and the text of elements of class `prose` inside articles."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.blocks: list[Block] = []
        self._path = path
        self._form: Form | None = None
        self._article = ""
        self._menu: str | None = None
        self._area: str | None = None
        self._depth = 0
        """Elements open inside the prose that is being read; 0 outside."""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        values = {name: value or "" for name, value in attrs}
        if self._depth:
            if tag not in _VOID:
                self._depth += 1
            if tag in _BLOCKS:
                self._text.append("\n")
        elif tag == "div" and "prose" in values.get("class", "").split() and self._article:
            self._depth, self._text = 1, []
        if tag == "article":
            self._article = values.get("class", "")
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "form":
            action = urljoin(self._path, values.get("action") or self._path)
            self._form = Form(action, values.get("method", "get").upper())
            self.forms.append(self._form)
        elif self._form is not None and values.get("name"):
            self._read_field(self._form, tag, values)
        elif tag == "option" and self._form is not None and self._menu is not None:
            self._form.choices[self._menu].append(values.get("value", ""))
            if "selected" in values or self._menu not in self._form.fields:
                self._form.fields[self._menu] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if self._depth:
            self._depth -= 1
            if tag in _BLOCKS:
                self._text.append("\n")
            if self._depth == 0:
                self.blocks.append(Block(self._article, _tidy("".join(self._text))))
        if tag == "article":
            self._article = ""
        elif tag == "form":
            self._form = None
        elif tag == "select":
            self._menu = None
        elif tag == "textarea":
            self._area = None

    def handle_data(self, data: str) -> None:
        """Read text."""
        if self._depth:
            self._text.append(data)
        if self._area is not None and self._form is not None:
            # The first line break belongs to the markup.
            typed = self._form.fields[self._area]
            self._form.fields[self._area] = typed + data if typed else data.removeprefix("\n")

    def _read_field(self, form: Form, tag: str, values: Mapping[str, str]) -> None:
        name, kind = values["name"], values.get("type", "text")
        if tag == "textarea":
            self._area = name
            form.fields[name] = ""
        elif tag == "select":
            self._menu = name
            form.choices[name] = []
        elif tag == "input" and kind == "radio":
            form.choices.setdefault(name, []).append(values.get("value", "on"))
            if "checked" in values:
                form.fields[name] = values.get("value", "on")
        elif tag == "input" and kind == "checkbox":
            if "checked" in values:
                form.fields[name] = values.get("value", "on")
        elif tag == "input" and kind not in ("submit", "button", "file"):
            form.fields[name] = values.get("value", "")


def _tidy(text: str) -> str:
    lines: Iterator[str] = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)
