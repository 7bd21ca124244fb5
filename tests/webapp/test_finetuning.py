"""Fine-tuning another policy on what a run was trained on."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from records.run_configs import RunKind
from registry.models import Run
from tests.factories import make_policy_version
from tests.webapp.runs import finished_run
from webapp.forms.demonstrations import SFTForm

pytestmark = pytest.mark.django_db


def sampled_run(**outputs: str) -> Run:
    """Return a finished run of rejection sampling of a large policy."""
    made = {"policy": "weights", "pool": "pool", "demonstrations": "selected", **outputs}
    return finished_run(RunKind.REJECTION_SAMPLING, {"temperature": 1.2}, outputs=made)


def fields_at(client: Client, address: str, **changes: Any) -> dict[str, Any]:
    form: SFTForm = client.get(address).context["form"]
    values = {field.html_name: field.value() for field in form}
    kept = {name: v for name, v in values.items() if v is not None and v is not False}
    return kept | changes


def test_a_small_policy_is_fine_tuned_on_what_a_large_ones_run_selected(
    lead_client: Client,
) -> None:
    run, small = sampled_run(), make_policy_version("Small base")
    address = reverse("finetune-on-run", args=[run.pk])
    assert address in lead_client.get(reverse("run", args=[run.pk])).content.decode()
    fields = fields_at(lead_client, address, output_name="Small V1", policy=str(small.pk))
    wrong = lead_client.post(address, {**fields, "num_epochs": "0"})
    assert wrong.status_code == 422
    assert "greater than 0" in wrong.content.decode()

    response = lead_client.post(address, fields)
    made = Run.objects.get(kind=RunKind.SFT)
    assert response.headers["Location"] == reverse("run", args=[made.pk])
    selected = run.run_outputs.get(name="demonstrations").artifact
    assert {item.role: item.artifact for item in made.run_inputs.all()} == {
        "policy": small.artifact,
        "demonstrations": selected,
    }
    assert (made.output_name, made.name) == ("Small V1", f"Small V1: SFT on run {run.pk}")

    taken = lead_client.post(address, fields)
    assert taken.status_code == 422
    assert "choose another name" in taken.content.decode()


def test_a_preset_fills_in_the_settings(lead_client: Client) -> None:
    address = reverse("finetune-on-run", args=[sampled_run().pk])
    response = lead_client.post(address, {"preset": "sft-sandbox", "fill_in": "1"})
    assert response.status_code == 200
    assert response.context["form"]["batch_size"].value() == "24"


def test_a_run_that_made_no_demonstrations_offers_none(lead_client: Client) -> None:
    run = finished_run(RunKind.SFT, {"loss": 0.5}, outputs={"policy": "weights"})
    address = reverse("finetune-on-run", args=[run.pk])
    assert address not in lead_client.get(reverse("run", args=[run.pk])).content.decode()
    assert lead_client.get(address).status_code == 404
    assert lead_client.post(address).status_code == 404
