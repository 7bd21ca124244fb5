"""Text written by models and people, rendered from Markdown to HTML that can do no harm.

Responses are rendered when they are stored, by whoever stores them, and their HTML is kept with the
name of the renderer that made it (decision 0017). HTML of another renderer is never shown.
"""

import hashlib
import re
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from annotation import formulas

_TAGS = {
    *formulas.TAGS,
    *("p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
    *("h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {**formulas.ATTRIBUTES, "a": {"href", "title"}, "ol": {"start"}}
_parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)
_parser.disable("image")
formulas.enable_formulas(_parser)
# Its rules are compiled once: `nh3.clean` would do so for every text, at five times the cost.
_cleaner = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow ugc",
    set_tag_attribute_values={
        tag: {"dir": "auto"} for tag in ("p", "li", "h4", "h5", "h6", "blockquote", "td", "th")
    },
)


class Rendered(TypedDict):
    """The fields of a `Sample` that hold its rendering."""

    html: str
    renderer: str


def rendered(text: str) -> Rendered:
    """Return what is stored of a response beside its text; see `render_markdown`."""
    return {"html": _render(text), "renderer": RENDERER}


_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 ,.?!;()'%/-]*[A-Za-z0-9,.?!;()'%/-])?")
"""One line of text that means nothing else in Markdown, as most prompts are."""


@lru_cache(maxsize=4096)
def render_markdown(text: str) -> SafeString:
    """Return `text` as sanitised HTML.

    Mathematics becomes MathML. Raw HTML is shown as text, images are not loaded, links open only
    http, https and mailto and carry no referrer, headings go below those of the page. Every block
    says `dir="auto"`, so that right-to-left text reads correctly.
    """
    return mark_safe(_render(text))  # noqa: S308 - it has just been sanitised


def _render(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return f'<p dir="auto">{text}</p>\n'
    tokens = _parser.parse(text)
    for token in tokens:
        _lower_heading(token)
    html = _parser.renderer.render(tokens, _parser.options, {})
    return _cleaner.clean(html)


def _lower_heading(token: Token) -> None:
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(6, int(token.tag[1]) + 3)}"


def _own_name() -> str:
    """Return a digest of everything that decides what a text becomes: our code and what it calls.

    Nobody has to remember a number: a changed rule or a newer sanitiser is another renderer.
    """
    digest = hashlib.sha256()
    for module in (__file__, formulas.__file__):
        digest.update(Path(module).read_bytes())
    for package in ("markdown-it-py", "mdit-py-plugins", "latex2mathml", "nh3"):
        digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]


RENDERER = _own_name()
"""Names this renderer: equal names render equally."""
