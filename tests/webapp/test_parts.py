"""Parts that Jinja2 renders: escaped, complete, and with the protection of every form."""

import re

import pytest
from django.contrib.messages import get_messages, info
from django.contrib.messages.storage import default_storage
from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import reverse
from jinja2 import UndefinedError

from annotation.models import Round, Sample, User
from annotation.rendering import rendered
from tests.factories import make_ready_comparison
from tests.webapp.conftest import signed_in
from webapp.parts import render_part
from webapp.sessions import SessionStore

pytestmark = pytest.mark.django_db
EVIL = "</template><script>alert(1)</script>\"'&"


@pytest.fixture
def request_(rf: RequestFactory) -> HttpRequest:
    request = rf.get("/")
    request.session = SessionStore()
    request._messages = default_storage(request)  # type: ignore[attr-defined]
    return request


def test_values_are_escaped(request_: HttpRequest) -> None:
    info(request_, EVIL)
    assert list(get_messages(request_))
    html = render_part(request_, "webapp/_toasts.html", {})
    assert "<p>&lt;/template&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;</p>" in html


def test_a_name_that_is_missing_is_an_error_and_no_empty_text(request_: HttpRequest) -> None:
    with pytest.raises(UndefinedError, match="task"):
        render_part(request_, "webapp/annotate/_told.html", {})


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("htmx", [True, False])
def test_what_models_and_leads_wrote_stays_text_on_the_judging_page(
    annotator: User, *, htmx: bool, is_stored: bool
) -> None:
    comparison = make_ready_comparison(annotator)
    html = rendered(EVIL) if is_stored else {"html": EVIL, "renderer": "an earlier one"}
    Sample.objects.filter(comparison=comparison).update(text=EVIL, **html)
    Round.objects.update(name=EVIL, system_prompt=f"{EVIL}\nsecond line")
    address = reverse("dialogue", args=[comparison.dialogue_id])
    headers = {"HX-Request": "true"} if htmx else {}
    page = signed_in(annotator).get(address, headers=headers).content.decode()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "second line</p>" in page
    assert '<template data-source="left">&lt;/template&gt;' in page


def test_the_forms_of_the_judging_page_carry_one_token_that_is_asked_for(annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    client = signed_in(annotator, checks_csrf=True)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    page = client.get(address, headers={"HX-Request": "true"}).content.decode()
    tokens = re.findall(r'name="csrfmiddlewaretoken" value="(\w{64})"', page)
    assert len(tokens) == 3
    assert len(set(tokens)) == 1
    flag = reverse("flag", args=[comparison.pk])
    assert client.post(flag, {"note": "look"}).status_code == 403
    sent = {"note": "look", "csrfmiddlewaretoken": tokens[0]}
    assert client.post(flag, sent).status_code == 302
