"""Policies and reward models: how good they are, where they came from, promotion."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.snapshots import freeze_snapshot
from records.import_configs import ImportConfig
from records.run_configs import RunKind
from registry.models import PolicyVersion, Run
from registry.services import fail_run
from tests.factories import judge, make_policy_version, make_ready_comparison, open_test_round
from tests.webapp.runs import evaluated, finished_run, running_run, trained_reward_model

pytestmark = pytest.mark.django_db


def page_at(client: Client, name: str, *args: int) -> str:
    return client.get(reverse(name, args=args)).content.decode()


def test_without_policies_the_list_says_where_they_come_from(lead_client: Client) -> None:
    assert "No policies yet" in page_at(lead_client, "policies")


def test_the_list_shows_each_version_with_its_newest_evaluation(lead_client: Client) -> None:
    sft, new = make_policy_version("SFT"), make_policy_version("V1", is_promoted=False)
    evaluated(new, sft, win_rate=0.5)
    evaluated(new, sft, win_rate=0.684, win_rate_low=0.639, win_rate_high=0.727)
    response = lead_client.get(reverse("policies"))
    page = response.content.decode()
    assert "<strong>68.4%</strong>" in page
    assert "63.9% to 72.7% vs SFT" in page
    assert "promoted" in page
    assert "candidate" in page
    assert response.context["win_rates"].rows == (("V1", "68.4%", "63.9% to 72.7%", "500"),)
    assert response.context["violations"].rows == (
        ("V1", "8%", "5% to 12%", "500", "version"),
        ("V1", "30%", "", "500", "its baseline"),
    )


def test_a_violation_rate_that_nobody_could_tell_is_a_dash_and_no_bar(lead_client: Client) -> None:
    evaluated(make_policy_version("V1"), make_policy_version("SFT"), violation_rate=None)
    response = lead_client.get(reverse("policies"))
    assert response.context["violations"].rows == ()
    assert '<td class="num">–</td>' in response.content.decode()


def test_the_page_of_a_policy_leads_down_to_rounds_and_guidelines(lead_client: Client) -> None:
    round_ = open_test_round("Week 1")
    judge(make_ready_comparison(round_=round_))
    snapshot = freeze_snapshot(rounds=[round_], name="first")
    model = trained_reward_model("RM1", snapshot.artifact)
    sft = make_policy_version("SFT")
    run = finished_run(
        RunKind.REJECTION_SAMPLING,
        {},
        inputs={"start": sft.artifact, "helpfulness": model.artifact},
        outputs={"policy": "weights of V1"},
        output_name="V1",
        name="best of eight",
    )
    policy = PolicyVersion.objects.get(run=run)

    page = page_at(lead_client, "policy", policy.pk)

    for address in (
        reverse("policy", args=[sft.pk]),
        reverse("run", args=[run.pk]),
        reverse("reward-model", args=[model.pk]),
        reverse("round", args=[round_.pk]),
        reverse("guidelines", args=[round_.guidelines_id]),
    ):
        assert f'href="{address}"' in page
    assert "1 preferences" in page or "1 preference" in page


def test_the_page_of_a_policy_shows_its_evaluation_with_examples(lead_client: Client) -> None:
    sft, new = make_policy_version("SFT"), make_policy_version("V1")
    evaluated(new, sft)
    page = page_at(lead_client, "policy", new.pk)
    assert "Win rate against SFT" in page
    assert "95% interval 65% to 74%" in page
    assert "Add 2 and 3." in page
    assert "six, I think" in page
    assert "policy: mean 0.65 of 500" in page


def test_a_policy_that_was_not_evaluated_says_so(lead_client: Client) -> None:
    assert "Not evaluated yet" in page_at(lead_client, "policy", make_policy_version().pk)


def test_a_policy_names_the_rounds_it_answers_in(lead_client: Client) -> None:
    policies = [make_policy_version(), make_policy_version()]
    open_test_round("Week 9", policies=policies)
    assert "Week 9" in page_at(lead_client, "policy", policies[0].pk)


def test_promotion_needs_a_post_and_notes_who(lead_client: Client) -> None:
    policy = make_policy_version("V1", is_promoted=False)
    address = reverse("promote", args=[policy.pk])
    assert lead_client.get(address).status_code == 405
    page = lead_client.post(address, follow=True).content.decode()
    policy.refresh_from_db()
    assert policy.promoted_by == "maria"
    assert "V1 is promoted" in page
    assert 'action="' + address not in page


def test_a_reward_model_shows_its_accuracy_beside_its_predecessors(lead_client: Client) -> None:
    page = page_at(lead_client, "reward-model", trained_reward_model("RM1").pk)
    assert "predecessor 71% on the same pairs" in page
    assert "+5%" in page
    assert "choosing the longer one 55%" in page


def test_a_policy_of_the_hub_needs_its_name_and_one_here(lead_client: Client) -> None:
    address = reverse("import-policy")
    assert f'href="{address}"' in page_at(lead_client, "policies")
    page = page_at(lead_client, "import-policy")
    assert 'value="meta-llama/Llama-2-7b-chat-hf"' in page
    assert "HF_TOKEN" in page
    data = {
        "hub_name": "meta-llama/Llama-2-7b-chat-hf",
        "revision": "main",
        "output_name": "Llama 2 chat",
    }
    response = lead_client.post(address, data)
    run = Run.objects.get()
    assert (run.kind, run.state, run.output_name) == ("import", "queued", "Llama 2 chat")
    assert run.typed_config == ImportConfig()
    assert response.headers["Location"] == reverse("run", args=[run.pk])
    assert "meta-llama/Llama-2-7b-chat-hf" in page_at(lead_client, "run", run.pk)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hub_name": "/etc/passwd"}, "is no name on the hub"),
        ({"hub_name": ""}, "This field is required"),
        ({"revision": "main; rm"}, "is no branch, tag or commit"),
        ({"output_name": "SFT"}, "exists already"),
    ],
)
def test_what_cannot_be_brought_in_is_said_beside_its_field(
    lead_client: Client, changes: dict[str, str], message: str
) -> None:
    make_policy_version("SFT")
    data = {"hub_name": "a/b", "revision": "main", "output_name": "X", **changes}
    response = lead_client.post(reverse("import-policy"), data)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Run.objects.exists()


def test_a_model_that_cannot_be_had_is_explained_without_a_traceback(lead_client: Client) -> None:
    run, token = running_run(RunKind.IMPORT)
    failure = {"error": "HubError", "message": "a/b is gated. Set HF_TOKEN", "traceback": ""}
    fail_run(run=run, token=token, failure=failure)
    page = page_at(lead_client, "run", run.pk)
    assert "a/b is gated. Set HF_TOKEN" in page
    assert "Traceback" not in page


@pytest.mark.parametrize("name", ["policy", "reward-model"])
def test_what_is_not_there_is_404(lead_client: Client, name: str) -> None:
    assert lead_client.get(reverse(name, args=[999])).status_code == 404
