"""The lead's start page."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.models import CounterCheck
from registry import services
from tests.factories import (
    judge,
    make_iteration,
    make_policy_version,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)
from tests.registry.factories import make_run
from tests.webapp.runs import evaluated

pytestmark = pytest.mark.django_db


def test_an_empty_house_says_what_is_missing(lead_client: Client) -> None:
    page = lead_client.get(reverse("dashboard")).content.decode()
    for words in ("No round is open", "No runs yet", "No worker serves cpu, gpu, sampling."):
        assert words in page


def test_the_figures_are_those_of_open_rounds_runs_and_the_newest_policy(
    lead_client: Client,
) -> None:
    sft, new = make_policy_version("SFT"), make_policy_version("V1")
    evaluated(new, sft, win_rate=0.684)
    round_ = open_test_round(policies=[sft, new], target_comparisons=50)
    comparison = make_ready_comparison(round_=round_)
    judge(comparison)
    person = comparison.dialogue.annotator
    write_test_prompt(person, start_test_dialogue(person, round_))
    make_run()
    response = lead_client.get(reverse("dashboard"))
    page = response.context["page"]
    assert (page.num_judged, page.num_asked, page.num_waiting, page.num_active_runs) == (
        1,
        50,
        1,
        1,
    )
    assert page.newest.policy == new
    assert "wins 68.4% against SFT" in response.content.decode()


def test_the_newest_iteration_stands_there_with_its_stages(lead_client: Client) -> None:
    iteration = make_iteration("V7")
    services.end_iteration(iteration=iteration, state="failed", error="out of memory")
    page = lead_client.get(reverse("dashboard")).content.decode()
    assert "V7" in page
    assert "out of memory" in page


def test_a_poll_brings_the_changing_part_alone(lead_client: Client) -> None:
    part = lead_client.get(reverse("dashboard"), headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    assert part.startswith('<div class="stack" id="dashboard"')


def test_the_number_of_queries_does_not_grow_with_rounds_and_runs(
    lead_client: Client,
) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            lead_client.get(reverse("dashboard"))
        return len(queries)

    open_test_round()
    make_run()
    few = count()
    for _ in range(4):
        open_test_round()
        make_run()
    assert count() == few


def test_counters_that_differ_are_named(lead_client: Client) -> None:
    page = lead_client.get(reverse("dashboard")).content.decode()
    assert "Counters differ" not in page
    row = {"what": "round", "name": "<Week>", "counter": "num_judged", "stored": 3, "counted": 2}
    CounterCheck.objects.create(num_checked=1, drift=[row])
    page = lead_client.get(reverse("dashboard")).content.decode()
    assert "Counters differ" in page
    assert "Round &lt;Week&gt;" in page
    assert "says 3, counted 2" in page
