"""Text written by models and people, rendered from Markdown to HTML that can do no harm."""

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from webapp import formulas

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


@lru_cache(maxsize=4096)
def render_markdown(text: str) -> SafeString:
    """Return `text` as sanitised HTML.

    Mathematics becomes MathML. Raw HTML is shown as text, images are not loaded, links open only
    http, https and mailto and carry no referrer, headings go below those of the page. Every block
    says `dir="auto"`, so that right-to-left text reads correctly.
    """
    tokens = _parser.parse(text)
    for token in tokens:
        _lower_heading(token)
    html = _parser.renderer.render(tokens, _parser.options, {})
    return mark_safe(_cleaner.clean(html))  # noqa: S308 - nh3 has just sanitised it


def _lower_heading(token: Token) -> None:
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
