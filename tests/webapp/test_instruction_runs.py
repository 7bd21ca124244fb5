"""Starting Ghost Attention, its measure and context distillation, and what their pages show."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.snapshots import import_preferences
from records.constraints import Constraint, read_constraints
from records.dialogues import Dialogue
from records.fields import Config
from records.instruction_configs import (
    ContextDistillationConfig,
    GhostAttentionConfig,
    PersistenceConfig,
)
from records.preferences import Axis, Preference
from records.preprompts import Preprompt, read_preprompts
from records.prompts import read_prompts
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from registry.models import PolicyVersion, RewardModelVersion, Run, Snapshot
from tests.factories import make_policy_version
from tests.webapp.runs import REWARD_MODEL, finished_run
from webapp.forms.configs import flat_values
from webapp.instruction_plots import plots_of_distillation, plots_of_obedience

pytestmark = pytest.mark.django_db


def snapshot() -> Snapshot:
    """Eight dialogues on each side; every other one begins with an adversarial prompt."""
    preferences = [
        Preference(
            preference_id=f"p{i}",
            dialogue_id=f"d{i}",
            prompt=Dialogue.from_texts(f"question {i}"),
            chosen="yes",
            rejected="no",
            axis=Axis.SAFETY,
            is_safety_prompt=i % 2 == 0,
        )
        for i in range(16)
    ]
    splits = {f"d{i}": "test" if i < 8 else "train" for i in range(16)}
    return import_preferences(preferences=preferences, name="asked", splits=splits)


def reward_model(axis: Axis) -> RewardModelVersion:
    run = finished_run(
        RunKind.REWARD_MODEL,
        REWARD_MODEL,
        config=RewardModelConfig(axis=axis),
        outputs={"reward_model": f"weights of {axis}"},
        output_name="RM1",
    )
    return RewardModelVersion.objects.get(run=run)


def fields_of(config: Config, **values: Any) -> dict[str, Any]:
    """Return a form as a browser sends it: every setting as it stands, unticked boxes left out."""
    settings = {
        path: str(value)
        for path, value in flat_values(config.to_json())
        if value is not None and value is not False
    }
    return {**settings, **values}


def inputs_of(run: Run) -> dict[str, int]:
    return dict(run.run_inputs.values_list("role", "artifact"))


def test_a_policys_page_leads_to_the_three_forms(lead_client: Client) -> None:
    policy = make_policy_version("V3")
    page = lead_client.get(reverse("policy", args=[policy.pk])).content.decode()
    for name in ("start-ghost-attention", "start-context-distillation", "start-persistence"):
        address = reverse(name, args=[policy.pk])
        assert f'href="{address}"' in page
        assert lead_client.get(address).status_code == 200


def test_the_form_queues_ghost_attention_with_the_constraints_written(lead_client: Client) -> None:
    policy, start, source = make_policy_version("V3"), make_policy_version("SFT"), snapshot()
    data = fields_of(
        GhostAttentionConfig(),
        output_name="V3 GA",
        start=start.pk,
        snapshot=source.pk,
        constraints="hobby | You enjoy chess. | Hobby: chess. | chess | Your hobby?\n\n"
        "language | Speak in Latin.",
        max_turns="6",
    )
    response = lead_client.post(reverse("start-ghost-attention", args=[policy.pk]), data)
    run = Run.objects.get(kind=RunKind.GHOST_ATTENTION)
    assert response["Location"] == reverse("run", args=[run.pk])
    assert run.typed_config == GhostAttentionConfig(max_turns=6)
    found = inputs_of(run)
    assert set(found) == {"policy", "start", "prompts", "constraints"}
    assert (found["policy"], found["start"]) == (policy.artifact_id, start.artifact_id)
    written = run.run_inputs.get(role="constraints").artifact.location
    assert list(read_constraints(written)) == [
        Constraint(
            category="hobby",
            text="You enjoy chess.",
            short="Hobby: chess.",
            value="chess",
            question="Your hobby?",
        ),
        Constraint(category="language", text="Speak in Latin."),
    ]
    asked = {
        p.prompt_id for p in read_prompts(run.run_inputs.get(role="prompts").artifact.location)
    }
    assert asked == {f"p{i}" for i in range(8, 16)}  # the side that is trained on


def test_the_version_descends_from_what_was_fine_tuned(lead_client: Client) -> None:
    policy, start = make_policy_version("V3"), make_policy_version("SFT")
    run = finished_run(
        RunKind.GHOST_ATTENTION,
        {"num_rows": 7},
        inputs={"policy": policy.artifact, "start": start.artifact},
        outputs={"policy": "weights", "demonstrations": "rows"},
        output_name="V3 GA",
    )
    made = PolicyVersion.objects.get(run=run)
    assert (made.name, made.parent) == ("V3 GA", start)
    assert "V3 GA" in lead_client.get(reverse("run", args=[run.pk])).content.decode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraints": "hobby"}, "Line 1: constraint: it has 1 parts, not two to five"),
        ({"num_responses": "4"}, "4 responses per turn need reward models that choose"),
        ({"max_turns": "1"}, "1 is below the lowest allowed value 2"),
        ({"min_turns": "21"}, "20 is below min_turns, which is 21"),
        ({"output_name": "taken"}, "taken"),
    ],
)
def test_what_cannot_be_run_is_said_at_its_field_and_nothing_is_queued(
    lead_client: Client, changes: dict[str, str], message: str
) -> None:
    policy = make_policy_version("taken")
    values = {"output_name": "V3 GA", "start": policy.pk, "snapshot": snapshot().pk, **changes}
    data = {**fields_of(GhostAttentionConfig()), **values}
    response = lead_client.post(reverse("start-ghost-attention", args=[policy.pk]), data)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Run.objects.filter(kind=RunKind.GHOST_ATTENTION).exists()


def test_one_reward_model_alone_is_refused(lead_client: Client) -> None:
    policy, safety = make_policy_version("V3"), reward_model(Axis.SAFETY)
    data = fields_of(
        GhostAttentionConfig(),
        output_name="V3 GA",
        start=policy.pk,
        snapshot=snapshot().pk,
        safety=safety.pk,
    )
    response = lead_client.post(reverse("start-ghost-attention", args=[policy.pk]), data)
    assert response.status_code == 422
    assert "give both" in str(response.context["form"].errors["helpfulness"])


def test_the_form_queues_context_distillation_with_the_preprompts_written(
    lead_client: Client,
) -> None:
    policy, safety, source = make_policy_version("V3"), reward_model(Axis.SAFETY), snapshot()
    data = fields_of(
        ContextDistillationConfig(),
        output_name="V3 CD",
        start=policy.pk,
        snapshot=source.pk,
        safety=safety.pk,
        preprompt_lines="Be kind.\nunqualified_advice | Say who can know.",
    )
    address = reverse("start-context-distillation", args=[policy.pk])
    response = lead_client.post(address, data)
    run = Run.objects.get(kind=RunKind.CONTEXT_DISTILLATION)
    assert response["Location"] == reverse("run", args=[run.pk])
    assert set(inputs_of(run)) == {"policy", "start", "prompts", "safety", "preprompts"}
    written = run.run_inputs.get(role="preprompts").artifact.location
    assert list(read_preprompts(written)) == [
        Preprompt(text="Be kind."),
        Preprompt(text="Say who can know.", risk_category="unqualified_advice"),
    ]
    wrong = {**data, "output_name": "other", "preprompt_lines": "theft | No."}
    response = lead_client.post(address, wrong)
    assert response.status_code == 422
    assert "theft" in str(response.context["form"].errors["preprompt_lines"])
    without = {**data, "output_name": "other", "safety": ""}
    assert "safety" in lead_client.post(address, without).context["form"].errors


def test_the_form_queues_a_measure_on_the_held_out_side(lead_client: Client) -> None:
    policy, baseline, source = make_policy_version("V3 GA"), make_policy_version("V3"), snapshot()
    data = fields_of(PersistenceConfig(), snapshot=source.pk, baseline=baseline.pk)
    response = lead_client.post(reverse("start-persistence", args=[policy.pk]), data)
    run = Run.objects.get(kind=RunKind.PERSISTENCE)
    assert response["Location"] == reverse("run", args=[run.pk])
    assert set(inputs_of(run)) == {"policy", "baseline", "prompts"}
    asked = read_prompts(run.run_inputs.get(role="prompts").artifact.location)
    assert {prompt.prompt_id for prompt in asked} <= {f"p{i}" for i in range(8)}
    again = lead_client.post(
        reverse("start-persistence", args=[policy.pk]), {**data, "baseline": policy.pk}
    )
    assert again.status_code == 422
    assert "is the policy itself" in again.content.decode()


def share(value: float | None, n: int = 50) -> dict[str, Any]:
    return {"value": value, "low": 0.1, "high": 0.9, "n": n}


OBEDIENCE = {
    "obedience": [
        {"turn": turn, "policy": share(0.9), "baseline": share(1.0 if turn == 1 else 0.125)}
        for turn in range(1, 21)
    ],
    "obedience_by_category": {
        "begin": {"policy": share(0.8), "baseline": share(0.2)},
        "end": {"policy": share(0.9), "baseline": share(0.1)},
    },
    "obedience_later_turns": 0.9,
}


def test_a_measure_is_drawn_on_its_own_page_and_on_the_policys(lead_client: Client) -> None:
    policy = make_policy_version("V3 GA")
    run = finished_run(RunKind.PERSISTENCE, OBEDIENCE, inputs={"policy": policy.artifact})
    own = lead_client.get(reverse("run", args=[run.pk]))
    plots = own.context["result_plots"]
    assert [plot.plot_id for plot in plots] == ["plot-obedience", "plot-obedience-category"]
    # Ten of twenty turns, the first and the last among them.
    labels = [row[0] for row in plots[0].rows if row[-1] == "this version"]
    assert (labels[0], labels[-1], len(labels)) == ("1", "20", 10)
    page = lead_client.get(reverse("policy", args=[policy.pk])).content.decode()
    assert "Keeps to instructions" in page
    other = make_policy_version("V2")
    assert "Keeps to" not in lead_client.get(reverse("policy", args=[other.pk])).content.decode()


def test_turns_that_no_dialogue_reached_are_not_drawn() -> None:
    rows = [{"turn": 1, "policy": share(0.5)}, {"turn": 2, "policy": share(None, 0)}]
    (plot,) = plots_of_obedience({"obedience": rows})
    assert [row[0] for row in plot.rows] == ["1"]
    assert plots_of_obedience({}) == []


def test_distillation_is_drawn_by_category_with_and_without_the_preprompt() -> None:
    moved = {"mean_before": 0.4, "mean_after": 0.6, "median_before": 0.45, "median_after": 0.75}
    figures = {
        "kept": share(0.7),
        "safety": {"all": moved, "kept": moved},
        "helpfulness": {"all": None, "kept": None},
    }
    categories = {"overall": figures, "illicit_and_criminal": figures}
    plots = plots_of_distillation({"categories": categories})
    assert [plot.plot_id for plot in plots] == ["plot-kept", "plot-safety-moved"]
    assert [row[0] for row in plots[0].rows] == ["overall", "illicit"]
    scores = {(row[0], row[-1]): row[1] for row in plots[1].rows}
    assert scores["overall", "without preprompt"] == "0.45"
    assert scores["illicit", "with preprompt"] == "0.75"
    assert plots_of_distillation({}) == []
