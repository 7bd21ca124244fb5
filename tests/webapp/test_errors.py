"""Error pages say what happened and what to do; the headers keep strangers out."""

import re
import subprocess
import sys

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse

from annotation.models import User
from tests.factories import make_ready_comparison, open_test_round
from webapp.views import errors

pytestmark = pytest.mark.django_db


def test_an_address_that_is_none_gets_a_page_with_a_way_out(lead_client: Client) -> None:
    response = lead_client.get("/no/such/page/")
    page = response.content.decode()
    assert response.status_code == 404
    assert "There is nothing here" in page
    assert f'href="{reverse("home")}"' in page


def test_another_role_is_told_which_role_the_page_is_for(annotator_client: Client) -> None:
    page = annotator_client.get(reverse("runs")).content.decode()
    assert "This page is for the role lead or admin." in page
    assert "ask a lead" in page


def test_an_error_of_ours_is_shown_without_touching_the_database(
    annotator: User, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    request = RequestFactory().get("/")
    request.user = annotator
    with django_assert_num_queries(0):  # type: ignore[operator] # pytest-django's fixture
        response = errors.server_error(request)
    assert response.status_code == 500
    assert b"Something broke on our side" in response.content


def test_a_view_that_fails_answers_with_that_page(
    lead_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("wire cut")

    monkeypatch.setattr("webapp.views.dashboard.dashboard_page", broken)
    lead_client.raise_request_exception = False
    response = lead_client.get(reverse("dashboard"))
    assert response.status_code == 500
    assert b"Something broke on our side" in response.content
    assert b"wire cut" not in response.content


def test_a_request_that_makes_no_sense_gets_the_400_page() -> None:
    response = errors.bad_request(RequestFactory().get("/"), ValueError("x"))
    assert response.status_code == 400


def test_every_page_forbids_inline_code_frames_and_foreign_hosts(lead_client: Client) -> None:
    for address in (reverse("dashboard"), reverse("new-round"), "/no/such/page/"):
        headers = lead_client.get(address).headers
        policy = headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_holds_inline_styles_scripts_or_handlers(
    lead_client: Client, annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round())
    pages = [
        lead_client.get(reverse(name)).content.decode()
        for name in ("dashboard", "rounds", "new-round", "iterations", "runs", "policies", "people")
    ]
    address = reverse("dialogue", args=[comparison.dialogue_id])
    for page in (*pages, annotator_client.get(address).content.decode()):
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page)
        assert not re.search(r'(?:src|href)="https?://', page)


def test_the_web_process_has_no_torch() -> None:
    script = (
        "import sys, django\n"
        "django.setup()\n"
        "from django.urls import get_resolver\n"
        "assert get_resolver().url_patterns\n"
        "import webapp.wsgi\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = {'torch', 'transformers', 'language', 'policies', 'rewardmodels', 'evaluation'}\n"
        "assert not loaded & heavy, loaded & heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
