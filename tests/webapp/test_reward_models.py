"""The page of a reward model: its report, what it learned from, and the form that starts one."""

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotation.models import Judgement
from annotation.snapshots import import_preferences
from records.preferences import Axis, Rating, SafetyBin
from records.reward_configs import RewardEvaluationConfig, RewardModelConfig
from records.run_configs import RunKind
from registry import services
from registry.models import RewardModelVersion, Run, Snapshot
from rewardmodels.evaluating import build_report
from rewardmodels.scored import ScoredPair
from tests.factories import judge, make_artifact, make_policy_version, make_ready_comparison
from tests.registry.factories import claimed, write_outputs
from tests.rewardmodels.rows import row
from tests.rewardmodels.toys import preference
from tests.webapp.runs import REWARD_MODEL, finished_run, trained_reward_model

pytestmark = pytest.mark.django_db


def scored(count: int = 40) -> list[ScoredPair]:
    """Three in four right on helpfulness; safety pairs with bins; some judged twice."""
    pairs = []
    for i in range(count):
        axis = "safety" if i % 4 == 3 else "helpfulness"
        sign = -1.0 if i % 8 in (2, 7) else 1.0
        pairs.append(
            row(
                sign * (1 + i % 5),
                0.5,
                preference_id=f"p{i}",
                dialogue_id=f"d{i // 2}",
                comparison=f"c{i // 3}",
                axis=axis,
                round_name=f"week {i % 3}",
                rating=list(Rating)[i % 4].value,
                safety_bin=SafetyBin.CHOSEN_SAFE.value if axis == "safety" else None,
                chosen_tokens=5 + i % 7,
                rejected_tokens=5 + i % 5,
                previous_chosen_score=1.0 if i % 2 else -1.0,
                previous_rejected_score=0.0,
            )
        )
    return pairs


def report_result(**extra: Any) -> dict[str, Any]:
    config = RewardEvaluationConfig(num_resamples=100)
    position = {"num_pairs": 30, "num_flipped": 0, "max_difference": 1e-6}
    report = build_report(scored(), {"helpfulness": position}, config)
    return json.loads(json.dumps({**report, "skipped": {"trained_on": 2}, **extra}))  # type: ignore[no-any-return]


def trained_safety_model(name: str) -> RewardModelVersion:
    run = finished_run(
        RunKind.REWARD_MODEL,
        REWARD_MODEL,
        config=RewardModelConfig(axis=Axis.SAFETY),
        outputs={"reward_model": f"weights of {name}"},
        output_name=name,
    )
    return RewardModelVersion.objects.get(run=run)


def reported(version: RewardModelVersion, **extra: Any) -> Run:
    return finished_run(
        RunKind.REWARD_EVALUATION,
        report_result(**extra),
        config=RewardEvaluationConfig(),
        inputs={"reward_model": version.artifact, "snapshot": make_artifact()},
        outputs={"report": f"report on {version.pk} {extra}"},
    )


def snapshot(name: str = "week 3", first: int = 0) -> Snapshot:
    return import_preferences(
        preferences=[preference(first + i) for i in range(10)],
        name=name,
        splits={f"d{first + i}": "test" if i < 4 else "train" for i in range(10)},
    )


def test_without_a_report_the_page_offers_to_make_one(lead_client: Client) -> None:
    version = trained_reward_model("RM1")
    page = lead_client.get(reverse("reward-model", args=[version.pk])).content.decode()
    assert reverse("reward-report", args=[version.pk]) in page
    assert "Make a report" in page
    assert "Sure of the opposite" not in page


def test_the_newest_report_is_shown_the_own_axis_first(lead_client: Client) -> None:
    version = trained_safety_model("RM1")
    reported(version, num_shortened=1)
    run = reported(version)
    response = lead_client.get(reverse("reward-model", args=[version.pk]))
    page = response.content.decode()
    report = response.context["report"]
    assert report.run == run
    assert [part.axis for part in report.axes] == ["safety", "helpfulness"]
    assert page.index("Safety, held-out pairs") < page.index("Helpfulness, held-out pairs")
    assert "2 pairs left out" in page
    stats = {stat.name: stat.value for stat in report.axes[1].stats}
    # 30 helpfulness pairs; wrong are those with i % 8 == 2: 2, 10, 18, 26, 34.
    assert stats["Accuracy"] == "83.3%"
    assert stats["Flipped by order"] == "0"
    assert "Unsafe found" not in stats
    assert "Unsafe found" in {stat.name for stat in report.axes[0].stats}


def test_every_plot_of_a_report_has_its_numbers_in_a_table(lead_client: Client) -> None:
    version = trained_reward_model("RM1")
    reported(version)
    response = lead_client.get(reverse("reward-model", args=[version.pk]))
    plots = {plot.plot_id: plot for plot in response.context["report"].axes[0].plots}
    assert list(plots) == [
        "helpfulness-accuracy",
        "helpfulness-rounds",
        "helpfulness-reliability",
        "helpfulness-agreement",
        "helpfulness-length",
        "helpfulness-histogram",
    ]
    assert plots["helpfulness-rounds"].rows[0][:2] == ("week 0", "90%")  # 9 of 10: 18 is wrong
    assert {line[-1] for line in plots["helpfulness-accuracy"].rows} == {
        "this version",
        "predecessor",
        "longer response",
    }
    page = response.content.decode()
    for plot_id in plots:
        assert f'id="{plot_id}-table"' in page


def test_a_disagreement_leads_to_the_judgement_where_there_is_one(lead_client: Client) -> None:
    judge(make_ready_comparison())
    judgement = Judgement.objects.get()
    items = [
        {
            "preference_id": name,
            "round_name": "week 1",
            "rating": "better",
            "chosen_score": -2.0,
            "rejected_score": 1.5,
            "confidence": 0.97,
        }
        for name in (str(judgement.uuid), "hh-rlhf/test.jsonl.gz:12")
    ]
    version = trained_reward_model("RM1")
    reported(version, disagreements=items)
    page = lead_client.get(reverse("reward-model", args=[version.pk])).content.decode()
    assert page.count(f'href="{reverse("judgement", args=[judgement.pk])}"') == 1
    assert "hh-rlhf/test.jsonl.gz:12" in page
    assert page.count("97%") == 2


def test_reviewers_see_what_the_newest_reports_dispute_the_surest_first(
    reviewer_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    page = reviewer_client.get(reverse("disagreements")).content.decode()
    assert "Nothing is disputed" in page
    for _ in range(3):
        judge(make_ready_comparison())
    first, second, _ = Judgement.objects.order_by("pk")
    version = trained_reward_model("RM1")

    def disputed(judgement: Judgement, confidence: float) -> dict[str, Any]:
        return {"preference_id": str(judgement.uuid), "confidence": confidence}

    imported = {"preference_id": "hh-rlhf/test.jsonl.gz:12", "confidence": 0.999}
    reported(version, disagreements=[disputed(first, 0.92), imported])
    reported(version, disagreements=[disputed(second, 0.99), disputed(first, 0.95)])
    with django_assert_max_num_queries(6):
        response = reviewer_client.get(reverse("disagreements"))
    rows = response.context["rows"]
    assert [(row.judgement, row.confidence) for row in rows] == [(second, 0.99), (first, 0.95)]
    assert f'href="{reverse("judgement", args=[second.pk])}"' in response.content.decode()


def test_the_page_costs_as_many_queries_however_long_the_list(
    lead_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    items = [
        {
            "preference_id": f"00000000-0000-0000-0000-{number:012d}",
            "round_name": "",
            "rating": None,
            "chosen_score": 0.0,
            "rejected_score": 3.0,
            "confidence": 0.95,
        }
        for number in range(60)
    ]
    version = trained_reward_model("RM1")
    reported(version, disagreements=items)
    with django_assert_max_num_queries(8):
        response = lead_client.get(reverse("reward-model", args=[version.pk]))
    assert len(response.context["report"].disagreements) == 30


def test_what_a_model_learned_from_stands_on_its_page(lead_client: Client) -> None:
    part = {
        "snapshot": "mixture_0",
        "axis": "helpfulness",
        "source": "open set",
        "is_whole": False,
        "num_available": 900,
        "num_taken": 100,
    }
    run = finished_run(
        RunKind.REWARD_MODEL,
        {**REWARD_MODEL, "mixture": [part]},
        outputs={"reward_model": "weights"},
        output_name="RM1",
    )
    version = RewardModelVersion.objects.get(run=run)
    page = lead_client.get(reverse("reward-model", args=[version.pk])).content.decode()
    assert "What it learned from" in page
    assert "open set" in page
    assert "drawn" in page


def test_the_form_queues_a_report_on_the_chosen_snapshots(lead_client: Client) -> None:
    version, other = trained_reward_model("RM2"), trained_reward_model("RM1")
    older, newer = snapshot("week 2"), snapshot("week 3", first=50)
    address = reverse("reward-report", args=[version.pk])
    page = lead_client.get(address).content.decode()
    assert "week 3: 4 of 10 held out" in page
    data = {
        "snapshots": [older.pk, newer.pk],
        "previous": other.pk,
        "axis": "",
        "safety_threshold": "0.15",
        "disagreement_confidence": "0.9",
        "num_reliability_bins": "10",
    }
    response = lead_client.post(address, data)
    run = Run.objects.get(kind=RunKind.REWARD_EVALUATION)
    assert response["Location"] == reverse("run", args=[run.pk])
    config = run.typed_config
    assert isinstance(config, RewardEvaluationConfig)
    assert (config.safety_threshold, config.axis) == (0.15, None)
    inputs = dict(run.run_inputs.values_list("role", "artifact"))
    assert inputs == {
        "reward_model": version.artifact_id,
        "previous": other.artifact_id,
        "snapshot": newer.artifact_id,
        "mixture_0": older.artifact_id,
    }
    page = lead_client.get(reverse("reward-model", args=[version.pk])).content.decode()
    assert "is queued" in page


def test_a_value_out_of_bounds_is_named_and_nothing_is_queued(lead_client: Client) -> None:
    version = trained_reward_model("RM1")
    data = {
        "snapshots": [snapshot().pk],
        "axis": "safety",
        "safety_threshold": "1.5",
        "disagreement_confidence": "0.9",
        "num_reliability_bins": "10",
    }
    response = lead_client.post(reverse("reward-report", args=[version.pk]), data)
    assert response.status_code == 422
    assert "1.5 is above the highest allowed value 1.0" in response.content.decode()
    assert not Run.objects.filter(kind=RunKind.REWARD_EVALUATION).exists()


def test_without_a_snapshot_the_form_asks_for_one(lead_client: Client) -> None:
    version = trained_reward_model("RM1")
    response = lead_client.post(reverse("reward-report", args=[version.pk]), {})
    assert response.status_code == 422
    assert "Choose at least one snapshot." in response.content.decode()


def test_the_page_of_the_run_shows_the_plots_of_the_report(lead_client: Client) -> None:
    run = reported(trained_reward_model("RM1"))
    response = lead_client.get(reverse("run", args=[run.pk]))
    ids = [plot.plot_id for plot in response.context["result_plots"]]
    assert "safety-accuracy" in ids
    assert "helpfulness-reliability" in ids


def test_the_curve_over_data_is_measured_by_runs_on_shares_of_the_pairs(
    lead_client: Client,
) -> None:
    version = trained_reward_model("RM1", snapshot=snapshot().artifact)
    address = reverse("reward-model", args=[version.pk])
    assert "Measure the curve" in lead_client.get(address).content.decode()
    for _ in range(2):  # a second click finds the runs there
        lead_client.post(reverse("reward-scaling", args=[version.pk]))
    runs = list(Run.objects.filter(config__data_share__lt=1).order_by("pk"))
    assert [run.config["data_share"] for run in runs] == [0.125, 0.25, 0.5]
    assert version.run is not None
    expected = dict(version.run.run_inputs.values_list("role", "artifact"))
    for run in runs:
        assert dict(run.run_inputs.values_list("role", "artifact")) == expected
        assert {**run.config, "data_share": 1.0} == version.run.config
    page = lead_client.get(address).content.decode()
    assert "on 12.5% of its pairs</a> is queued." in page
    assert "Measure the curve" not in page

    overall = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 100, "ties": 0}
    run, token = claimed(runs[0])
    summary = {**REWARD_MODEL, "accuracy": {"overall": overall}, "num_train": 250}
    result = write_outputs(run, summary, reward_model="an eighth")
    services.finish_run(run=run, token=token, result=result)
    type(version).objects.filter(pk=version.pk).update(metrics={**REWARD_MODEL, "num_train": 2000})
    plot = lead_client.get(address).context["scaling"].plot
    assert [(*cells[:2], cells[-1]) for cells in plot.rows] == [
        ("250", "60%", "all pairs"),
        ("2,000", "76%", "all pairs"),
        ("2,000", "91%", "significantly"),
    ]
    assert type(version).objects.count() == 1


def test_a_failed_share_can_be_measured_again(lead_client: Client) -> None:
    version = trained_reward_model("RM1", snapshot=snapshot().artifact)
    lead_client.post(reverse("reward-scaling", args=[version.pk]))
    run, token = claimed(Run.objects.get(config__data_share=0.25))
    failure = {"error": "OSError", "message": "the disk is full", "traceback": ""}
    services.fail_run(run=run, token=token, failure=failure)
    lead_client.post(reverse("reward-scaling", args=[version.pk]))
    assert Run.objects.filter(config__data_share=0.25).count() == 2
    assert Run.objects.filter(config__data_share__lt=1).count() == 4


def test_a_model_that_was_brought_in_has_no_curve(lead_client: Client) -> None:
    version = services.register_reward_model(
        name="foreign", axis=Axis.SAFETY, artifact=make_artifact()
    )
    page = lead_client.get(reverse("reward-model", args=[version.pk])).content.decode()
    assert "Measure the curve" not in page
    response = lead_client.post(reverse("reward-scaling", args=[version.pk]), follow=True)
    assert "was brought in" in response.content.decode()
    assert not Run.objects.exists()


def test_the_list_draws_accuracy_over_data_and_model_size(lead_client: Client) -> None:
    for name, pairs, size, value in (("A", 100, 7, 0.6), ("B", 200, 7, 0.7), ("C", 200, 13, 0.8)):
        overall = {"value": value, "low": 0.5, "high": 0.9, "n": 50, "ties": 0}
        summary = {"accuracy": {"overall": overall}, "num_train": pairs, "num_parameters": size}
        finished_run(
            RunKind.REWARD_MODEL,
            summary,
            config=RewardModelConfig(axis=Axis.SAFETY),
            outputs={"reward_model": name},
            output_name=name,
        )
    over_data, over_size = lead_client.get(reverse("policies")).context["scaling"]
    assert over_data.headers == ("training pairs", "safety")
    assert over_data.rows == (("100", "0.6"), ("200", "0.75"))  # 0.7 and 0.8 on 50 pairs each
    assert over_size.rows == (("7", "0.65"), ("13", "0.8"))


def test_one_model_makes_no_curve(lead_client: Client) -> None:
    trained_reward_model("RM1")
    assert lead_client.get(reverse("policies")).context["scaling"] == []


def test_the_general_model_is_filed_under_its_own_name(lead_client: Client) -> None:
    run = finished_run(
        RunKind.REWARD_MODEL,
        REWARD_MODEL,
        config=RewardModelConfig(is_general=True),
        outputs={"reward_model": "general weights"},
        output_name="monitor",
    )
    version = RewardModelVersion.objects.get(run=run)
    assert version.axis == "general"
    make_policy_version()
    assert "general" in lead_client.get(reverse("policies")).content.decode()
