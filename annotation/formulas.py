"""Mathematics in Markdown: TeX between dollars or backslashed brackets, shown as MathML.

Browsers render MathML themselves, so no script is loaded and the content security policy stays as
it is. What is made here is not safe yet: `rendering.render_markdown` sanitises it with the rest.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mstyle", "mpadded", "mphantom"),
    *("mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover", "munderover"),
    *("mtable", "mtr", "mtd", "menclose", "mmultiscripts", "mprescripts"),
}
"""Presentation MathML: nothing that links, embeds or annotates."""
ATTRIBUTES = {
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "separator", "form", "lspace", "rspace", "minsize", "maxsize"},
    "mfrac": {"linethickness"},
    "mspace": {"width", "linebreak"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mtable": {"columnalign", "rowspacing", "columnspacing"},
    "mtd": {"columnalign"},
    "menclose": {"notation"},
    "mover": {"accent"},
    "munder": {"accentunder"},
}
MAX_CHARACTERS = 2000
"""A longer formula is shown as its source."""
_INLINE = ("math_inline", "math_inline_double", "math_single")
_BLOCK = ("math_block", "math_block_label", "math_block_eqno")


def enable_formulas(parser: MarkdownIt) -> None:
    r"""Teach a parser `$x$`, `$$x$$`, `\(x\)` and `\[x\]`; prices such as $5 stay prices."""
    texmath_plugin(parser, delimiters="brackets")
    dollarmath_plugin(
        parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True
    )
    for name in (*_INLINE, *_BLOCK):
        parser.add_render_rule(name, _render)


def _render(
    _: object, tokens: Sequence[Token], index: int, options: object, env: dict[str, Any]
) -> str:
    del options, env
    token = tokens[index]
    is_display = token.type not in ("math_inline", "math_single")
    html = formula(token.content.strip(), is_display=is_display)
    return f"<p>{html}</p>\n" if token.type in _BLOCK else html


def formula(tex: str, *, is_display: bool) -> str:
    """Return unsanitised MathML, or the source as code where it is no formula we can read."""
    if len(tex) <= MAX_CHARACTERS:
        try:
            return convert(tex, display="block" if is_display else "inline")
        except Exception:  # noqa: BLE001, S110 - the converter raises many things at bad TeX
            pass
    return f"<code>{escape(tex)}</code>"
