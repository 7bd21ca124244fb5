"""Distillation through the site: a large policy's samples teach small ones, in both ways there are.

`docs/howto/rejection-sampling.md` with real workers, runs and pages; the policies are toys of two
sizes, so nothing is asked of how good they become.
"""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from language.models import load_policy, save_model
from records.iteration_configs import Gate, IterationConfig
from records.policy_configs import EvaluationConfig, RejectionSamplingConfig, SFTConfig
from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind, SamplingConfig
from registry.models import Artifact, Iteration, PolicyVersion, Run
from registry.selectors import lineage_of
from registry.services import publish_artifact, register_policy
from tests.factories import make_lead
from tests.models import tiny_policy, tiny_tokenizer
from tests.policies.toys import LEARNING
from tests.webapp.conftest import signed_in
from tests.workers.live import forget_messages, live_beat, live_worker, wait_until
from tests.workers.test_iterations import imported_snapshot
from workers.iterations import accept_candidate, start_iteration

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

TEMPERATURES = (0.8, 1.2)


def registered(name: str, folder: Path, **shape: Any) -> PolicyVersion:
    save_model(tiny_policy(**shape), tiny_tokenizer(), folder / name)
    artifact = publish_artifact(path=folder / name, kind=Artifact.Kind.POLICY)
    return register_policy(name=name, artifact=artifact)


def iteration_config() -> IterationConfig:
    common = {"num_threads": 1, "device": "cpu"}
    models = {
        axis.value: RewardModelConfig(
            **common, axis=axis, pairs_per_batch=8, max_tokens=128, optimizer=LEARNING
        )
        for axis in Axis
    }
    sampling = RejectionSamplingConfig(
        **common,
        num_responses=4,
        sampling=SamplingConfig(max_new_tokens=120),
        sweep_temperatures=TEMPERATURES,
        num_sweep_prompts=3,
        finetune=SFTConfig(batch_size=4, max_tokens=256, optimizer=LEARNING),
    )
    return IterationConfig(
        **models,
        snapshot=imported_snapshot("distilled").pk,
        gate=Gate.OFF,
        rejection_sampling=sampling,
        evaluation=EvaluationConfig(**common, sampling=SamplingConfig(max_new_tokens=16)),
    )


def waits_for_the_lead(iteration: Iteration) -> bool:
    row = Iteration.objects.get(pk=iteration.pk)
    assert row.state == Iteration.State.RUNNING, row.error
    return row.stage == Iteration.Stage.PROMOTION


def finished(kind: RunKind) -> Run | None:
    run = Run.objects.get(kind=kind)
    assert run.state != Run.State.FAILED, run.error_traceback
    return run if run.state == Run.State.FINISHED else None


def width_of(version: PolicyVersion) -> int:
    return int(load_policy(version.artifact.location).config.hidden_size)


def start_by_form(lead: Client, run: Run, policy: PolicyVersion, name: str) -> None:
    """Follow the button on a run's page and send its form with these values changed."""
    address = reverse("finetune-on-run", args=[run.pk])
    assert address in lead.get(reverse("run", args=[run.pk])).content.decode()
    form = lead.get(address).context["form"]
    shown = {field.html_name: field.value() for field in form}
    fields = {key: v for key, v in shown.items() if v is not None and v is not False}
    changes = {"output_name": name, "policy": policy.pk, "batch_size": 4, "max_tokens": 256}
    assert lead.post(address, {**fields, **changes}).status_code == 302


def test_small_policies_learn_from_what_a_large_one_was_selected_for(tmp_path: Path) -> None:
    large = registered("Large", tmp_path, num_layers=2, hidden_size=32)
    small = registered("Small", tmp_path, num_layers=1, hidden_size=16, num_heads=2)
    forget_messages()
    with live_beat(), live_worker("cpu,gpu", environment={"CONCORD_RUN_LAUNCHER": "direct"}):
        iteration = start_iteration(
            name="Small V1",
            config=iteration_config(),
            base_policy=small,
            start_policy=large,
            previous_policy=small,
        )
        wait_until(lambda: waits_for_the_lead(iteration), timeout_seconds=400)
        sampling = Run.objects.get(kind=RunKind.REJECTION_SAMPLING)
        start_by_form(signed_in(make_lead("maria")), sampling, small, "Small V1 again")
        wait_until(lambda: finished(RunKind.SFT), timeout_seconds=200)

    result = sampling.result
    assert result is not None
    assert result["temperature"] in TEMPERATURES
    made = accept_candidate(iteration=iteration, by="maria")
    again = PolicyVersion.objects.get(name="Small V1 again")
    for version in (made, again):
        assert version.parent == small
        assert width_of(version) == 16
        assert sampling in {step.run for step in lineage_of(version).steps}
