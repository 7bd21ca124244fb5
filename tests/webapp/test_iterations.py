"""Iterations: started, followed, decided and scheduled by a lead."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Round
from records.iteration_configs import (
    Algorithm,
    IterationConfig,
    Monitor,
    RejectionSamplingStart,
)
from records.preferences import Axis
from records.presets import preset
from records.reward_configs import RewardModelConfig
from registry import services
from registry.models import Iteration, Run
from tests.factories import (
    judge,
    make_iteration,
    make_policy_version,
    make_ready_comparison,
    open_test_round,
)
from tests.webapp.runs import failed_run, running_run, trained_reward_model, waiting_for_decision
from webapp.forms.iterations import IterationForm
from workers.models import IterationSchedule

pytestmark = pytest.mark.django_db


@pytest.fixture
def judged_round(db: None) -> Round:
    comparison = make_ready_comparison()
    judge(comparison)
    return comparison.round


def form_fields(client: Client, **changes: Any) -> dict[str, Any]:
    """Return what the form sends when somebody changes only `changes`."""
    form: IterationForm = client.get(reverse("new-iteration")).context["form"]
    fields = {field.html_name: field.value() for field in form}
    fields = {
        name: getattr(value, "pk", value)
        for name, value in fields.items()
        if value is not None and value is not False
    }
    return fields | {name.replace("__", "."): value for name, value in changes.items()}


def test_the_form_offers_every_setting_with_its_own_text_as_help(
    lead_client: Client, judged_round: Round
) -> None:
    response = lead_client.get(reverse("new-iteration"))
    page = response.content.decode()
    for name in ("ppo.kl_coef", "helpfulness.optimizer.learning_rate", "evaluation.judge"):
        assert f'name="{name}"' in page
    assert "Beta of equation 4: 0.01 for 7B and 13B" in page
    titles = [section.title for section in response.context["form"].sections()]
    assert titles[0] == "General settings"
    assert "PPO" in titles


def test_an_iteration_starts_with_the_settings_of_the_form(
    lead_client: Client, judged_round: Round
) -> None:
    fields = form_fields(
        lead_client, name="V1", ppo__kl_coef="0.05", algorithm="rejection_sampling"
    )
    response = lead_client.post(reverse("new-iteration"), fields)
    assert response.status_code == 302, response.context["form"].errors
    iteration = Iteration.objects.get()
    assert response.headers["Location"] == reverse("iteration", args=[iteration.pk])
    config = IterationConfig.from_json(iteration.config)
    assert config.rounds == (judged_round.pk,)
    assert config.ppo.kl_coef == 0.05
    assert config.algorithm is Algorithm.REJECTION_SAMPLING


def test_an_unchanged_form_gives_the_default_config(
    lead_client: Client, judged_round: Round
) -> None:
    lead_client.post(reverse("new-iteration"), form_fields(lead_client))
    config = IterationConfig.from_json(Iteration.objects.get().config)
    assert config == IterationConfig(rounds=(judged_round.pk,))


def test_a_preset_fills_in_both_reward_models_and_keeps_what_was_typed(
    lead_client: Client, judged_round: Round
) -> None:
    fields = form_fields(
        lead_client, name="V7", preset="rm-70b", ppo__kl_coef="0.07", safety__max_tokens="99"
    )
    response = lead_client.post(reverse("new-iteration"), {**fields, "fill_in": "1"})
    assert response.status_code == 200
    assert not Iteration.objects.exists()
    form = response.context["form"]
    shown = {field.html_name: field.value() for field in form}
    assert (shown["name"], shown["ppo.kl_coef"]) == ("V7", "0.07")
    assert (shown["helpfulness.whole"], shown["helpfulness.other_axis_share"]) == (
        "collected",
        "0.5",
    )
    assert shown["safety.max_tokens"] == "4096"
    sent = {name: getattr(value, "pk", value) for name, value in shown.items() if value is not None}
    assert lead_client.post(reverse("new-iteration"), sent).status_code == 302
    config = IterationConfig.from_json(Iteration.objects.get().config)
    assert config.helpfulness == preset("rm-70b", Axis.HELPFULNESS)
    assert config.safety == preset("rm-70b", Axis.SAFETY)
    assert config.ppo.kl_coef == 0.07


def test_the_general_model_has_settings_of_its_own_but_no_axis(
    lead_client: Client, judged_round: Round
) -> None:
    fields = form_fields(
        lead_client, monitor="trained", preset="rm-7b", general_model__num_threads="3"
    )
    response = lead_client.post(reverse("new-iteration"), {**fields, "fill_in": "1"})
    shown = {field.html_name: field.value() for field in response.context["form"]}
    assert shown["general_model.pairs_per_batch"] == "512"
    assert shown["general_model.made_share"] == "0.5"
    assert shown["helpfulness.made_share"] == "0.0"
    names = ("axis", "is_general", "whole", "other_axis_share")
    assert not {f"general_model.{name}" for name in names} & set(shown)
    assert lead_client.post(reverse("new-iteration"), fields).status_code == 302
    config = IterationConfig.from_json(Iteration.objects.get().config)
    assert config.monitor is Monitor.TRAINED
    expected = RewardModelConfig(is_general=True, num_threads=3, made_share=0.5)
    assert config.general_model == expected


def test_an_evaluation_shows_the_general_model_where_one_watched(lead_client: Client) -> None:
    iteration = make_iteration()
    _, evaluation = waiting_for_decision(iteration)
    page = reverse("iteration", args=[iteration.pk])
    assert "General model" not in lead_client.get(page).content.decode()
    watched = {**(evaluation.result or {}), "general": 0.41, "baseline_general": 0.53}
    Run.objects.filter(pk=evaluation.pk).update(result=watched)
    text = " ".join(lead_client.get(page).content.decode().split())
    assert "<dt>General model</dt><dd>0.41</dd>" in text
    assert f"{iteration.previous_policy.name} 0.53" in text


def test_a_preset_that_does_not_exist_changes_nothing(
    lead_client: Client, judged_round: Round
) -> None:
    fields = form_fields(lead_client, preset="rm-1000b", safety__max_tokens="99")
    response = lead_client.post(reverse("new-iteration"), {**fields, "fill_in": "1"})
    assert response.context["form"]["safety.max_tokens"].value() == "99"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"ppo__kl_coef": "-1"}, "ppo.kl_coef", "is below the lowest allowed value 0"),
        ({"ppo__kl_coef": "abc"}, "ppo.kl_coef", "Enter a number."),
        ({"ppo__optimizer__learning_rate": "0"}, "ppo.optimizer.learning_rate", "greater than 0"),
        ({"test_share": "0.95"}, "test_share", "above the highest allowed value 0.9"),
        ({"rounds": []}, "rounds", "Choose at least one round to learn from."),
    ],
)
def test_a_setting_out_of_bounds_is_named_and_nothing_starts(
    lead_client: Client, judged_round: Round, changes: dict[str, Any], field: str, message: str
) -> None:
    response = lead_client.post(reverse("new-iteration"), form_fields(lead_client, **changes))
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert list(errors) == [field]
    assert message in errors[field][0]
    assert not Iteration.objects.exists()


def test_the_settings_of_the_newest_iteration_are_the_next_ones_start(
    lead_client: Client, judged_round: Round
) -> None:
    lead_client.post(reverse("new-iteration"), form_fields(lead_client, ppo__num_iterations="77"))
    form = lead_client.get(reverse("new-iteration")).context["form"]
    assert form["ppo.num_iterations"].value() == 77
    ppo = next(section for section in form.sections() if section.title == "PPO")
    assert ppo.num_changed == 1


def test_a_second_iteration_waits_for_the_first(lead_client: Client, judged_round: Round) -> None:
    make_iteration("V1")
    response = lead_client.post(reverse("new-iteration"), form_fields(lead_client))
    assert response.status_code == 422
    assert "still running" in response.content.decode()


def test_the_list_says_what_is_missing_before_the_first_iteration(lead_client: Client) -> None:
    assert "There is no policy to begin with." in page_at(lead_client, "iterations")
    make_policy_version()
    assert "Nothing has been judged yet." in page_at(lead_client, "iterations")
    judge(make_ready_comparison(round_=open_test_round()))
    assert "Start the first iteration." in page_at(lead_client, "iterations")


def page_at(client: Client, name: str, *args: int) -> str:
    return client.get(reverse(name, args=args)).content.decode()


def test_the_page_shows_where_the_iteration_stands(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    services.set_iteration_stage(iteration=iteration, stage="reward_models", expected="snapshot")
    running_run(iteration=iteration, stage="reward_models", name="V1: helpfulness reward model")
    response = lead_client.get(reverse("iteration", args=[iteration.pk]))
    steps = [(step.label, step.status, step.note) for step in response.context["page"].steps]
    assert steps == [
        ("Snapshot", "done", ""),
        ("Reward models", "now", "running"),
        ("Rejection sampling", "todo", ""),
        ("Evaluation", "todo", ""),
        ("Promotion", "todo", ""),
    ]
    assert "V1: helpfulness reward model" in response.content.decode()


def test_ppo_is_a_stage_where_the_config_has_it(lead_client: Client) -> None:
    policy = make_policy_version()
    iteration = services.create_iteration(
        name="V1",
        config={"algorithm": "rejection_sampling_ppo"},
        base_policy=policy,
        start_policy=policy,
        previous_policy=policy,
    )
    response = lead_client.get(reverse("iteration", args=[iteration.pk]))
    assert [step.label for step in response.context["page"].steps][3] == "PPO"


def test_the_page_says_what_is_fine_tuned(lead_client: Client) -> None:
    for start, name in (("base", "Base"), ("newest", "V1")):
        base, newest = make_policy_version(f"Base {start}"), make_policy_version(f"V1 {start}")
        iteration = services.create_iteration(
            name=f"V2 {start}",
            config={"rejection_sampling_start": start},
            base_policy=base,
            start_policy=newest,
            previous_policy=base,
        )
        page = lead_client.get(reverse("iteration", args=[iteration.pk]))
        assert page.context["page"].finetuned.name == f"{name} {start}"
        text = " ".join(re.sub(r"<[^>]+>", "", page.content.decode()).split())
        assert f"Fine-tunes {name} {start}, samples from V1 {start}" in text
        services.end_iteration(iteration=iteration, state="stopped", error="the next one")


def test_the_temperatures_of_a_sweep_are_written_in_one_line(
    lead_client: Client, judged_round: Round
) -> None:
    field = "rejection_sampling.sweep_temperatures"
    fields = form_fields(lead_client, name="V1", rejection_sampling_start="newest")
    for line, message in (
        ("1.2", "1 of them, but a sweep tries 2 to 32, or none"),
        ("0.8, 9", "9.0 is above the highest allowed value 5.0"),
        ("0.8, warm", "warm is no number."),
    ):
        response = lead_client.post(reverse("new-iteration"), {**fields, field: line})
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert message in response.context["form"].errors[field][0]
    lead_client.post(reverse("new-iteration"), {**fields, field: "0.8, 1.0, 1.3"})
    config = IterationConfig.from_json(Iteration.objects.get().config)
    assert config.rejection_sampling.sweep_temperatures == (0.8, 1.0, 1.3)
    assert config.rejection_sampling_start is RejectionSamplingStart.NEWEST
    form = lead_client.get(reverse("new-iteration")).context["form"]
    assert form[field].value() == "0.8, 1.0, 1.3"


def test_a_failed_iteration_says_why_and_marks_the_stage(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    services.end_iteration(iteration=iteration, state="failed", error="run 3 failed: out of memory")
    page = page_at(lead_client, "iteration", iteration.pk)
    assert "Run 3 failed: out of memory" in page
    assert "step step-failed" in page
    lead_client.post(reverse("retry-iteration", args=[iteration.pk]))
    iteration.refresh_from_db()
    assert iteration.state == "running"


def test_reward_models_stand_beside_their_predecessors(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    model = trained_reward_model("V1")
    type(model).objects.filter(pk=model.pk).update(iteration=iteration)
    view = lead_client.get(reverse("iteration", args=[iteration.pk])).context["page"]
    (shown,) = view.reward_models
    assert (shown.value, shown.previous, shown.num_pairs) == (0.76, 0.71, 100)
    assert shown.gain == pytest.approx(0.05)


def test_a_candidate_waits_for_the_lead_who_promotes_it(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    candidate, _ = waiting_for_decision(iteration)
    page = page_at(lead_client, "iteration", iteration.pk)
    assert "Promote V1?" in page
    assert "95% interval 65% to 74%" in page
    lead_client.post(reverse("decide", args=[iteration.pk]), {"decision": "promote"})
    candidate.refresh_from_db()
    iteration.refresh_from_db()
    assert (candidate.promoted_by, iteration.state) == ("maria", "finished")


def test_a_candidate_is_declined_with_a_reason(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    candidate, _ = waiting_for_decision(iteration)
    address = reverse("decide", args=[iteration.pk])
    page = lead_client.post(address, {"decision": "decline"}, follow=True).content.decode()
    assert "Say why the candidate is declined." in page
    lead_client.post(address, {"decision": "decline", "reason": "rambles"})
    candidate.refresh_from_db()
    iteration.refresh_from_db()
    assert not candidate.is_promoted
    assert iteration.error == "maria declined to promote V1: rambles"


def test_deciding_on_an_iteration_that_waits_for_nothing_changes_nothing(
    lead_client: Client,
) -> None:
    iteration = make_iteration("V1")
    address = reverse("decide", args=[iteration.pk])
    page = lead_client.post(address, {"decision": "promote"}, follow=True).content.decode()
    assert "Nothing was changed" in page


def test_stopping_an_iteration_cancels_its_runs(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    run, _ = running_run(iteration=iteration, stage="snapshot")
    lead_client.post(reverse("stop-iteration", args=[iteration.pk]))
    iteration.refresh_from_db()
    run.refresh_from_db()
    assert iteration.state == "stopped"
    assert run.cancel_requested_by == "maria"


def test_taking_up_a_running_iteration_is_refused_with_the_reason(lead_client: Client) -> None:
    iteration = make_iteration("V1")
    address = reverse("retry-iteration", args=[iteration.pk])
    assert "Not taken up" in lead_client.post(address, follow=True).content.decode()


def test_a_schedule_is_stored_with_the_newest_settings_and_shown(lead_client: Client) -> None:
    policy = make_policy_version("SFT")
    when = (timezone.now() + timedelta(days=2)).replace(second=0, microsecond=0)
    fields = {
        "is_enabled": "on",
        "every_hours": "24",
        "next_start_at": when.strftime("%Y-%m-%dT%H:%M"),
        "base_policy": str(policy.pk),
    }
    page = lead_client.post(reverse("schedule"), fields, follow=True).content.decode()
    stored = IterationSchedule.objects.get()
    assert (stored.every_hours, stored.next_start_at, stored.closes_rounds) == (24, when, False)
    assert "then every 24 hours" in page
    assert "24" in page_at(lead_client, "schedule")
    lead_client.post(reverse("schedule"), fields | {"every_hours": "48"})
    assert IterationSchedule.objects.get().every_hours == 48


def test_a_schedule_names_the_field_that_is_wrong(lead_client: Client) -> None:
    make_policy_version("SFT")
    response = lead_client.post(reverse("schedule"), {"every_hours": "0", "next_start_at": "soon"})
    assert response.status_code == 422
    assert set(response.context["form"].errors) == {"every_hours", "next_start_at", "base_policy"}


def test_a_failed_run_outside_any_iteration_leaves_the_list_alone(lead_client: Client) -> None:
    failed_run()
    assert "No iterations yet" in page_at(lead_client, "iterations")
