"""The browser without JavaScript reads forms, links and words from pages as they are."""

import pytest

from simulation.browser import Block, Browser, _parse

PAGE = """<!doctype html><body>
<a href="/annotate/">All</a>
<article class="turn turn-user"><div class="prose" dir="auto"><p>How &amp; why?</p></div></article>
<article class="card response"><header>A</header><div class="prose"><p>One <em>two</em></p>
<ul><li>three</li><li>four</li></ul><hr></div></article>
<form method="post" action="/annotate/comparisons/7/judge/">
<input type="hidden" name="client_key" value="k&quot;1"><input type="submit" name="go" value="x">
<input type="radio" name="choice" value="a"><input type="radio" name="choice" value="b" checked>
<input type="checkbox" name="neither"><input type="checkbox" name="sure" checked>
<select name="risk"><option value="">-</option><option value="r" selected>R</option></select>
<textarea name="note">
 typed &lt;b&gt;</textarea></form>
<form action="?by=x"><input name="q"></form></body>"""


def test_a_form_holds_what_would_be_sent_and_what_it_offers() -> None:
    page = _parse(200, "/annotate/dialogues/3/", PAGE, 0.5)
    form = page.form("/judge/")
    assert (form.method, form.action) == ("POST", "/annotate/comparisons/7/judge/")
    assert form.fields == {
        "client_key": 'k"1', "choice": "b", "sure": "on", "risk": "r", "note": " typed <b>"
    }  # fmt: skip
    assert form.choices == {"choice": ["a", "b"], "risk": ["", "r"]}
    other = page.forms[1]
    assert (other.method, other.action) == ("GET", "/annotate/dialogues/3/?by=x")


def test_words_come_without_markup_and_with_their_lines() -> None:
    page = _parse(200, "/", PAGE, 0.5)
    assert page.blocks == [
        Block("turn turn-user", "How & why?"),
        Block("card response", "One two\nthree\nfour"),
    ]
    assert page.links == ["/annotate/"]
    assert page.find_form("/nowhere/") is None


@pytest.mark.parametrize("url", ["ftp://host/", "localhost:8000", "http://"])
def test_what_is_no_address_of_a_site_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not http:// or https:// with a host"):
        Browser(url)
