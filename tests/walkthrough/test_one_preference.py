"""One preference, from prompt to next round: `docs/one-preference.md` with real people's pages.

The web is asked as a browser asks it; PostgreSQL, Redis and the Celery workers of all queues are
real, and so are the runs. Steps are numbered as on that page. On the way a reward-model run, a
worker and the PPO run are killed with `kill -9`; nothing that they logged may show it.
"""

import os
import re
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Comparison, Dialogue, Judgement, Round
from annotation.services import NewVariant, close_round, open_round
from records.iteration_configs import Algorithm, Gate, IterationConfig
from records.policy_configs import EvaluationConfig, PPOConfig, RejectionSamplingConfig, SFTConfig
from records.preferences import Axis
from records.run_configs import OptimizerConfig, Schedule
from records.rundirs import RunDirectory
from records.snapshots import read_snapshot
from registry.models import Artifact, Iteration, PolicyVersion, RewardModelVersion, Run
from registry.services import promote_policy, publish_artifact, register_policy
from tests.factories import make_annotator, make_guidelines, make_lead, make_reviewer
from tests.walkthrough.sandbox import (
    FINETUNING,
    SAMPLING,
    SandboxModels,
    reward_model_config,
    run_by_hand,
)
from tests.webapp.conftest import signed_in
from tests.workers.live import (
    forget_messages,
    kill_worker,
    live_beat,
    live_worker,
    process_past_step,
    wait_until,
)
from tests.workers.runs import stored_metrics, written_metrics
from webapp.drawing import format_percent
from workers.iterations import start_iteration
from workers.simulated import run_crowd, simulated_annotators

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

NUM_COMPARISONS = {Axis.HELPFULNESS: 260, Axis.SAFETY: 160}


def registered(name: str, folder: Any) -> PolicyVersion:
    artifact = publish_artifact(path=folder, kind=Artifact.Kind.POLICY)
    return promote_policy(version=register_policy(name=name, artifact=artifact), by="test")


def open_by_form(lead: Client, name: str, axis: Axis, policies: list[PolicyVersion]) -> Round:
    """Open a round as a lead does: the form as it is shown, with these values changed."""
    page = lead.get(reverse("new-round"))
    fields = {
        f"{form.prefix}-{field.name}": field.value()
        for form in page.context["variants"].forms
        for field in form
        if field.value() is not None
    }
    management = page.context["variants"].management_form
    fields |= {f"variant-{field.name}": field.value() for field in management}
    for number, policy in enumerate(policies):
        fields[f"variant-{number}-policy"] = policy.pk
        fields[f"variant-{number}-max_new_tokens"] = SAMPLING.max_new_tokens
    fields |= {
        field.name: field.value() for field in page.context["form"] if field.value() is not None
    }
    fields |= {
        "name": name,
        "axis": axis.value,
        "guidelines": make_guidelines(axis).pk,
        "target_comparisons": NUM_COMPARISONS[axis],
        "max_turns": 3,
    }
    response = lead.post(reverse("new-round"), fields)
    assert response.status_code == 302, response.context["form"].errors
    return Round.objects.get(name=name)


def write_and_wait(client: Client, dialogue: Dialogue, text: str) -> Comparison:
    """Send a prompt by the page's form; return the comparison once both responses are there."""
    fields = {"text": text, "client_key": str(uuid.uuid4())}
    assert client.post(reverse("prompt", args=[dialogue.pk]), fields).status_code == 302
    page = wait_until(lambda: _shown_pair(client, dialogue))
    comparison = dialogue.comparisons.latest("pk")
    assert {sample.text for sample in comparison.samples.all()} == set(page)
    return comparison


def _shown_pair(client: Client, dialogue: Dialogue) -> list[str]:
    pair = client.get(reverse("dialogue", args=[dialogue.pk])).context["task"].pair
    return [] if pair is None else [pair.left.text, pair.right.text]


def judge_by_form(client: Client, dialogue: Dialogue, number: int) -> Judgement:
    """Choose one of the eight steps on the page and submit it."""
    page = client.get(reverse("dialogue", args=[dialogue.pk])).content.decode()
    step = re.search(rf'value="(\d+:\w+)"[^>]*data-number="{number}"', page)
    key = re.search(r'name="client_key" value="([^"]+)"', page)
    assert step is not None
    assert key is not None
    comparison = dialogue.comparisons.latest("pk")
    fields = {"choice": step[1], "client_key": key[1], "active_seconds": "9.5"}
    for _ in range(2):  # a double click
        response = client.post(reverse("judge", args=[comparison.pk]), fields)
        assert response.status_code == 302
    return Judgement.objects.get(comparison=comparison)


def iteration_config(rounds: list[Round]) -> IterationConfig:
    finetune = SFTConfig(num_epochs=1, batch_size=32, max_tokens=256, optimizer=FINETUNING)
    constant = OptimizerConfig(learning_rate=1e-4, schedule=Schedule.CONSTANT, adam_epsilon=1e-8)
    return IterationConfig(
        rounds=tuple(round_.pk for round_ in rounds),
        test_share=0.2,
        algorithm=Algorithm.REJECTION_SAMPLING_PPO,
        gate=Gate.NOT_WORSE,
        max_prompts=120,
        helpfulness=reward_model_config(Axis.HELPFULNESS, num_threads=1, checkpoint_every=2),
        safety=reward_model_config(Axis.SAFETY, num_threads=1),
        rejection_sampling=RejectionSamplingConfig(
            num_responses=4, sampling=SAMPLING, finetune=finetune
        ),
        ppo=PPOConfig(
            num_threads=1,
            num_iterations=4,
            checkpoint_every=1,
            batch_size=32,
            minibatch_size=16,
            sampling=SAMPLING,
            eval_every=2,
            optimizer=constant,
        ),
        evaluation=EvaluationConfig(sampling=SAMPLING, judge="sandbox"),
    )


def test_from_a_prompt_to_the_next_round(sandbox_models: SandboxModels, tmp_path: Path) -> None:
    base, sft = (registered(n, getattr(sandbox_models, n.lower())) for n in ("Base", "SFT"))
    lead_user, person, reviewer = make_lead("maria"), make_annotator("ana"), make_reviewer("remy")
    lead, annotator = signed_in(lead_user), signed_in(person)

    # 1. A lead opens a round for each axis, answered by two policy versions.
    rounds = [open_by_form(lead, f"{axis} 1", axis, [sft, base]) for axis in Axis]
    forget_messages()
    environment = {"CONCORD_RUN_LAUNCHER": "direct"}
    with live_beat(), live_worker(num_processes=3, environment=environment) as worker:
        # 2. An annotator writes a prompt; the sampler answers it by two variants.
        key = {"client_key": str(uuid.uuid4())}
        annotator.post(reverse("start", args=[rounds[0].pk]), key)
        dialogue = Dialogue.objects.get(annotator=person)
        comparison = write_and_wait(annotator, dialogue, "what does the fox eat ?")
        assert {sample.policy for sample in comparison.samples.all()} == {base, sft}
        assert len({sample.temperature for sample in comparison.samples.all()}) == 2

        # 3. The judgement is stored once, with the side it was shown on and the guidelines.
        judgement = judge_by_form(annotator, dialogue, 7)
        assert (judgement.rating, judgement.displayed_side) == ("better", "right")
        assert judgement.guidelines == rounds[0].guidelines

        # 4. The chosen response continues the dialogue.
        second = write_and_wait(annotator, dialogue, "and where does it live ?")
        assert second.turn == 1
        turns = annotator.get(reverse("dialogue", args=[dialogue.pk])).context["task"].turns
        chosen = judgement.chosen_sample.text
        assert [turn.text for turn in turns][1] == chosen
        spoiled = judge_by_form(annotator, dialogue, 1)

        # 5. A reviewer excludes the second judgement; the others come from a crowd.
        fields = {
            "kind": "exclude",
            "judgement": str(spoiled.pk),
            "reason": "low_quality",
            "note": "read too quickly",
            "client_key": str(uuid.uuid4()),
        }
        url = reverse("review-comparison", args=[spoiled.comparison_id])
        assert signed_in(reviewer).post(url, fields).status_code == 302
        for round_ in rounds:
            run_crowd(round_, simulated_annotators(16))
            round_.refresh_from_db()
            assert round_.num_judged == round_.target_comparisons
            close_round(round_=round_, closed_by=lead_user)

        # 6. to 8. The iteration: snapshot, reward models, rejection sampling, PPO, evaluation.
        iteration = start_iteration(
            name="V1",
            config=iteration_config(rounds),
            base_policy=base,
            start_policy=sft,
            previous_policy=base,
        )
        killed = [kill_past_step(iteration, "V1: helpfulness reward model", 4)]
        wait_until(lambda: is_at_work(iteration, "V1: rejection sampling"), timeout_seconds=180)
        kill_worker(worker)
    with live_beat(), live_worker(num_processes=3, environment=environment):
        killed.append(kill_past_step(iteration, "V1: PPO", 2))
        wait_until(lambda: waits_for_the_lead(iteration), timeout_seconds=180)

    # Killed or not, the metrics are those of the same run started by hand and left alone.
    for run in killed:
        run.refresh_from_db()
        alone = RunDirectory.create(tmp_path / run.kind, run.directory.read_spec())
        run_by_hand(alone)
        assert stored_metrics(run) == written_metrics(alone)

    # 6. The snapshot holds the first judgement and not the excluded one, its dialogue undivided.
    iteration.refresh_from_db()
    assert iteration.snapshot is not None
    folder = iteration.snapshot.artifact.location
    sides = {side: list(read_snapshot(folder, split=side)) for side in ("train", "test")}
    rows = {row.preference_id: row for side in sides.values() for row in side}
    assert len(rows) == sum(NUM_COMPARISONS.values()) - 1
    assert rows[str(judgement.uuid)].chosen == chosen
    assert str(spoiled.uuid) not in rows
    dialogues = [{row.dialogue_id for row in side} for side in sides.values()]
    assert dialogues[0].isdisjoint(dialogues[1])

    # 7. There is a reward model for each axis, and they know more than chance would.
    models = RewardModelVersion.objects.filter(iteration=iteration)
    assert {model.axis for model in models} == set(Axis)
    overall = [model.metrics["accuracy"]["overall"] for model in models]
    # Both together: some ninety held-out pairs, so that luck does not decide.
    num_right = sum(figure["value"] * figure["n"] for figure in overall)
    assert num_right / sum(figure["n"] for figure in overall) > 0.5, overall

    # 8. The best of several responses scored higher than their mean.
    sampling = Run.objects.get(iteration=iteration, kind="rejection_sampling")
    assert sampling.result is not None
    assert sampling.result["mean_best_score"] > sampling.result["mean_score"]

    # 9. The lead promotes; the version's page shows where it came from.
    lead.post(reverse("decide", args=[iteration.pk]), {"decision": "promote"})
    version = PolicyVersion.objects.get(name="V1")
    assert version.is_promoted
    page = lead.get(reverse("policy", args=[version.pk])).content.decode()
    for round_ in rounds:
        assert round_.name in page
        assert str(round_.guidelines) in page
    for name in ("rejection sampling", "PPO", "helpfulness reward model", "SFT"):
        assert name in page
    evaluation = Run.objects.get(iteration=iteration, kind="evaluation").result
    assert evaluation is not None
    assert evaluation["win_rate_low"] <= evaluation["win_rate"] <= evaluation["win_rate_high"]
    assert format_percent(evaluation["win_rate"]) in page

    # 10. The next round is answered by the new policy and its predecessor.
    following = open_round(
        name="helpfulness 2",
        axis=Axis.HELPFULNESS,
        guidelines=rounds[0].guidelines,
        variants=[NewVariant(version), NewVariant(sft)],
        target_comparisons=4,
        max_turns=1,
        opened_by=lead_user,
    )
    with live_worker("sampling", num_processes=1):
        run_crowd(following, simulated_annotators(4))
    answering = set(PolicyVersion.objects.filter(samples__comparison__round=following).distinct())
    assert answering == {version, sft}


def waits_for_the_lead(iteration: Iteration) -> bool:
    row = Iteration.objects.get(pk=iteration.pk)
    assert row.state == Iteration.State.RUNNING, row.error
    return row.stage == Iteration.Stage.PROMOTION


def is_at_work(iteration: Iteration, name: str) -> bool:
    """Whether a run has logged something."""
    run = Run.objects.filter(iteration=iteration, name=name).first()
    return run is not None and bool(run.directory.read_metrics()[0])


def kill_past_step(iteration: Iteration, name: str, step: int) -> Run:
    """`kill -9` the training process of a run once it has passed `step`."""
    wait_until(lambda: is_at_work(iteration, name), timeout_seconds=180)
    run = Run.objects.get(iteration=iteration, name=name)
    pid = wait_until(lambda: process_past_step(run.directory, step))
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return run
