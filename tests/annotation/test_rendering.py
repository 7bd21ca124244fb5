"""Text of models and people becomes HTML that can do no harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.rendering import render_markdown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** and *b*", '<p dir="auto"><strong>a</strong> and <em>b</em></p>'),
        ("one\ntwo", '<p dir="auto">one<br>\ntwo</p>'),
        ("# Title", '<h4 dir="auto">Title</h4>'),
        ("###### deep", '<h6 dir="auto">deep</h6>'),
        ("`x < 1`", '<p dir="auto"><code>x &lt; 1</code></p>'),
        ("~~no~~", '<p dir="auto"><s>no</s></p>'),
        ("- a", '<ul>\n<li dir="auto">a</li>\n</ul>'),
        ("$5 and $6", '<p dir="auto">$5 and $6</p>'),
        ("`$x$`", '<p dir="auto"><code>$x$</code></p>'),
        (r"$\frac{$", r'<p dir="auto"><code>\frac{</code></p>'),
    ],
)
def test_markdown_is_rendered(text: str, html: str) -> None:
    assert render_markdown(text).strip() == html


@pytest.mark.parametrize("tex", ["$x^2$", r"\(x^2\)"])
def test_a_formula_in_a_line_is_mathml(tex: str) -> None:
    assert render_markdown(f"so {tex} grows") == (
        '<p dir="auto">so <math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow>'
        "</math> grows</p>\n"
    )


@pytest.mark.parametrize("tex", ["$$\n\\frac{a}{b}\n$$", r"\[\frac{a}{b}\]", r"$$\frac{a}{b}$$"])
def test_a_formula_of_its_own_is_displayed(tex: str) -> None:
    html = render_markdown(tex)
    assert '<math display="block">' in html
    assert "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>" in html


def test_a_formula_nested_too_deeply_or_too_long_is_shown_as_its_source() -> None:
    for tex in ("{" * 1900, "x" * 2001):
        assert render_markdown(f"${tex}$") == f'<p dir="auto"><code>{tex}</code></p>\n'


def test_right_to_left_text_sets_its_own_direction() -> None:
    assert render_markdown("שלום עולם").startswith('<p dir="auto">')


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](https://tracker.example/pixel.png)",
        '<a href="#" style="position:fixed">x</a>',
        "<svg/onload=alert(1)>",
        "```\n</code></pre><script>alert(1)</script>\n```",
        '<form action="https://evil.example"><input name=x></form>',
        '[x](https://a.example/" onclick="alert(1))',
        r"$\href{javascript:alert(1)}{x}$",
        r"$\text{<script>alert(1)</script>}$",
        r"$\text{<img src=x onerror=alert(1)>}$",
        r"$\text{</mtext></math><style><img src=x onerror=alert(1)></style>}$",
        r"$$\style{position:fixed}{x} \class{card}{y}$$",
        r"\[<svg/onload=alert(1)>\]",
    ],
)
def test_an_attack_is_shown_as_text(attack: str) -> None:
    html = render_markdown(attack)
    for piece in (
        "<script",
        "<img",
        "<svg",
        "<form",
        "<input",
        "<style",
        'href="javascript',
        'href="data',
    ):
        assert piece not in html.lower()
    for attribute in (" onerror=", " onclick=", " onload=", " style=", " class="):
        assert not any(attribute in tag for tag in tags_of(html))


def tags_of(html: str) -> list[str]:
    return [part.partition(">")[0] for part in html.split("<")[1:]]


@given(st.text(max_size=200))
def test_only_known_tags_ever_come_out(text: str) -> None:
    names = {tag.lstrip("/").split(" ")[0].rstrip("/") for tag in tags_of(render_markdown(text))}
    known = "p br hr strong em s code pre blockquote ul ol li a h4 h5 h6 table thead tbody tr th td"
    assert names <= set(known.split())


def test_a_link_tells_its_target_nothing() -> None:
    html = render_markdown("[site](https://example.org/page)")
    assert 'href="https://example.org/page"' in html
    assert 'rel="noopener noreferrer nofollow ugc"' in html


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9 ,.?!;()'%/-]{0,40}", fullmatch=True))
def test_a_plain_line_is_rendered_as_it_is_among_others(text: str) -> None:
    before = "*x*\n\n"  # what holds it is parsed as a whole

    assert render_markdown(before + text) == render_markdown(before) + render_markdown(text)
