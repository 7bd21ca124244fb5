"""The list of runs and the page of one run, alive, finished and failed."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from records.run_configs import RunKind
from registry import services
from registry.models import Run
from tests.registry.factories import claimed, make_run
from tests.webapp.runs import REWARD_MODEL, failed_run, finished_run, running_run

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}


def page_of(client: Client, run: Run) -> str:
    return client.get(reverse("run", args=[run.pk])).content.decode()


def test_without_runs_the_list_says_what_makes_them(lead_client: Client) -> None:
    page = lead_client.get(reverse("runs")).content.decode()
    assert "No runs yet" in page
    assert "Starting an iteration queues its first runs." in page


def test_the_list_can_be_narrowed_to_a_state_and_a_kind(lead_client: Client) -> None:
    make_run(name="queued tuning")
    failed_run()
    make_run(RunKind.EVALUATION, name="queued evaluation")
    names = {"queued tuning", "queued evaluation"}
    for query, shown in (
        ("", names),
        ("?state=queued", names),
        ("?state=queued&kind=sft", {"queued tuning"}),
        ("?state=failed", set()),
        ("?state=nonsense&kind=nonsense&before=x", names),
    ):
        page = lead_client.get(reverse("runs") + query).content.decode().lower()
        assert {name for name in names if name in page} == shown, query


def test_older_runs_come_on_further_pages_and_none_is_shown_twice(lead_client: Client) -> None:
    for number in range(31):
        make_run(name=f"number {number:02d}")
    first = lead_client.get(reverse("runs")).content.decode()
    older = re.search(r'href="(\?before=\d+)"', first)
    assert older is not None
    second = lead_client.get(reverse("runs") + older[1]).content.decode()
    assert "number 30" in first
    assert "number 00" not in first
    assert "number 00" in second
    assert "number 01" not in second


def test_the_list_says_when_no_worker_takes_runs(lead_client: Client) -> None:
    assert "No worker serves the gpu queue." in lead_client.get(reverse("runs")).content.decode()


def test_a_running_run_shows_progress_and_a_plot_per_group_of_metrics(lead_client: Client) -> None:
    run, token = running_run(name="V2: PPO")
    rows = [
        {"step": step, "total_steps": 8, "reward": step / 10, "kl": step * 2.0, "policy_loss": 0.1}
        for step in (1, 2)
    ]
    services.record_metrics(run=run, token=token, rows=rows)
    page = page_of(lead_client, run)
    assert "step 2 of 8" in page
    assert '<progress value="2" max="8"' in page
    for title in ("Reward and score", "KL to the reference", "Loss"):
        assert f"<h3>{title}</h3>" in page
    assert page.count("<svg class=") == 3
    assert 'hx-trigger="every 2s"' in page


def test_a_poll_brings_the_plots_alone_and_they_move(lead_client: Client) -> None:
    run, token = running_run()
    address = reverse("run", args=[run.pk])

    def points() -> str:
        part = lead_client.get(address, headers=HTMX).content.decode()
        assert "<html" not in part
        found = re.search(r'points="([^"]+)"', part)
        return found[1] if found else ""

    assert points() == ""
    seen = set()
    for step in (1, 2, 3):
        row = {"step": step, "total_steps": 3, "reward": step * 1.5}
        services.record_metrics(run=run, token=token, rows=[row])
        seen.add(points())
    assert len(seen) == 3


def test_the_poll_after_the_end_brings_the_whole_page_and_polls_no_more(
    lead_client: Client,
) -> None:
    run = finished_run(RunKind.SFT, {"loss": 0.25}, outputs={"policy": "weights"})
    response = lead_client.get(reverse("run", args=[run.pk]), headers=HTMX)
    assert response.headers["HX-Retarget"] == "#run-page"
    page = response.content.decode()
    assert "hx-trigger" not in page
    assert "<dd>0.25</dd>" in page


def test_a_reward_model_shows_accuracy_by_rating_beside_predecessor_and_length(
    lead_client: Client,
) -> None:
    run = finished_run(RunKind.REWARD_MODEL, REWARD_MODEL, outputs={"reward_model": "weights"})
    page = page_of(lead_client, run)
    assert "Accuracy by rating, held-out pairs" in page
    assert "overall, this version: 76%, 71% to 81%" in page
    assert "significantly, predecessor: 80%" in page
    assert "overall, longer response: 55%" in page


def test_inputs_and_outputs_are_linked_by_the_names_they_are_known_by(lead_client: Client) -> None:
    run = finished_run(RunKind.SFT, {}, outputs={"policy": "weights of V7"}, output_name="V7")
    policy = run.policies.get()
    page = page_of(lead_client, run)
    assert f'<a class="main" href="{reverse("policy", args=[policy.pk])}">V7</a>' in page
    assert policy.artifact.digest[:16] in page


def test_a_failure_shows_class_message_and_traceback(lead_client: Client) -> None:
    page = page_of(lead_client, failed_run("step 3: loss is nan; lower the learning rate"))
    for words in ("FloatingPointError", "lower the learning rate", "line 1\nline 2"):
        assert words in page
    assert "Try again" in page


def test_the_end_of_the_log_is_shown_as_text(lead_client: Client) -> None:
    run, _ = running_run()
    (run.directory.root / "log.txt").write_text("step 1\n<b>step 2</b>\n")
    assert "&lt;b&gt;step 2&lt;/b&gt;" in page_of(lead_client, run)


def test_each_field_of_the_config_stands_with_its_meaning(lead_client: Client) -> None:
    page = page_of(lead_client, make_run())
    assert "optimizer.learning_rate" in page
    assert "Highest learning rate, reached after warm-up." in page


def test_a_queued_run_is_cancelled_at_once(lead_client: Client) -> None:
    run = make_run()
    response = lead_client.post(reverse("cancel-run", args=[run.pk]), follow=True)
    assert "The run is cancelled." in response.content.decode()
    run.refresh_from_db()
    assert (run.state, run.cancel_requested_by) == ("cancelled", "maria")


def test_a_running_run_is_asked_to_stop_and_the_button_says_so(lead_client: Client) -> None:
    run, _ = claimed(make_run())
    response = lead_client.post(reverse("cancel-run", args=[run.pk]), follow=True)
    assert "Stopping …" in response.content.decode()


def test_a_failed_run_is_queued_again(lead_client: Client) -> None:
    run = failed_run()
    lead_client.post(reverse("retry-run", args=[run.pk]))
    run.refresh_from_db()
    assert (run.state, run.attempts) == ("queued", 0)


def test_a_finished_run_is_not_queued_again(lead_client: Client) -> None:
    run = finished_run(RunKind.SFT, {}, outputs={"policy": "weights"})
    response = lead_client.post(reverse("retry-run", args=[run.pk]), follow=True)
    assert "Not queued" in response.content.decode()


def test_a_sentence_of_the_result_takes_a_row_of_its_own(lead_client: Client) -> None:
    summary = {"networks": "one base with adapters", "best_iteration": 3}
    page = page_of(lead_client, finished_run(RunKind.PPO, summary, outputs={"policy": "weights"}))
    places = re.findall(r"<div( class=\"summary-words\")?><dt>([^<]+)</dt>", page)
    assert {name: bool(words) for words, name in places} == {
        "networks": True,
        "best iteration": False,
    }


def test_a_run_that_is_not_there_is_404(lead_client: Client) -> None:
    assert lead_client.get(reverse("run", args=[999])).status_code == 404


def test_a_run_shows_the_last_of_its_alarms_in_words(lead_client: Client) -> None:
    run, token = running_run()
    rows = [{"step": step, "total_steps": 9, "kl": 1.0, "alarm_kl": 0.0} for step in range(1, 9)]
    for row in rows[1:]:
        row["event"] = f"Alarm <{row['step']}>: raise kl_coef."
    services.record_metrics(run=run, token=token, rows=rows)
    page = page_of(lead_client, run)
    assert "What looks wrong" in page
    assert "Alarm &lt;8&gt;: raise kl_coef." in page
    assert "Alarm &lt;4&gt;" in page
    assert "Alarm &lt;3&gt;" not in page, "five are enough"
    assert "Alarm kl" not in page, "an alarm is told, not plotted"


def test_a_run_without_alarms_says_nothing_of_them(lead_client: Client) -> None:
    run, token = running_run()
    services.record_metrics(run=run, token=token, rows=[{"step": 1, "total_steps": 9, "kl": 1.0}])
    assert "What looks wrong" not in page_of(lead_client, run)
