"""The iteration's state machine: stages in order, each run once, every end with its reason.

The runs are ended here as a worker ends them, through the registry's services, with small files in
place of weights; `test_live_iteration.py` lets real runs do it.
"""

from typing import Any

import pytest

from annotation.models import Round
from annotation.snapshots import import_preferences
from records.dialogues import Dialogue
from records.errors import RecordError
from records.iteration_configs import (
    Algorithm,
    Gate,
    IterationConfig,
    Monitor,
    PPOReference,
    Promotion,
    RejectionSamplingStart,
    RewardModelStart,
)
from records.policy_configs import PPOConfig, RejectionSamplingConfig, SFTConfig
from records.ppo_choices import RewardNetwork
from records.preferences import Axis, Preference
from records.reward_configs import RewardModelConfig
from registry.errors import IterationRunningError, TransitionError
from registry.models import (
    Artifact,
    Iteration,
    PolicyVersion,
    RewardModelVersion,
    Run,
    Snapshot,
)
from registry.services import cancel_run_done, fail_run, finish_run, request_cancel
from tests.factories import (
    make_annotator,
    make_judgement,
    make_policy_version,
    open_test_round,
    start_test_dialogue,
)
from tests.races import run_at_once
from tests.registry.factories import claimed, write_outputs
from workers.iterations import (
    accept_candidate,
    advance_iteration,
    decline_candidate,
    retry_iteration,
    start_iteration,
    stop_iteration,
)

Stage, State = Iteration.Stage, Iteration.State
WON = {"win_rate_low": 0.6, "violation_rate": 0.1, "baseline_violation_rate": 0.2}
LOST = WON | {"win_rate_low": 0.4}


def judged_rounds(num_dialogues: int = 8) -> list[Round]:
    """Return a helpfulness and a safety round with some judgements each."""
    rounds = []
    for axis in Axis:
        round_ = open_test_round(axis=axis)
        annotator = make_annotator()
        for _ in range(num_dialogues):
            make_judgement(dialogue=start_test_dialogue(annotator, round_))
        rounds.append(round_)
    return rounds


def imported_snapshot(name: str) -> Snapshot:
    """Return a snapshot of sixteen dialogues, half of them on the test side."""
    preferences = [
        Preference(
            preference_id=f"{name}.{index}",
            dialogue_id=f"{name}.{index}",
            prompt=Dialogue.from_texts(f"question {index} of {name}"),
            chosen="yes",
            rejected="no",
            axis=list(Axis)[index // 2 % 2],
        )
        for index in range(16)
    ]
    splits = {f"{name}.{index}": ("train", "test")[index % 2] for index in range(16)}
    return import_preferences(preferences=preferences, name=name, splits=splits)


def started(name: str = "V1", *, policy: PolicyVersion | None = None, **fields: Any) -> Iteration:
    policy = policy or make_policy_version()
    if "snapshot" not in fields and "rounds" not in fields:
        fields["snapshot"] = imported_snapshot(f"asked for {name}").pk
    return start_iteration(
        name=name,
        config=IterationConfig(**fields),
        base_policy=policy,
        start_policy=policy,
        previous_policy=policy,
    )


def runs_of(iteration: Iteration, stage: str) -> list[Run]:
    return list(Run.objects.filter(iteration=iteration, stage=stage).order_by("pk"))


def accuracy(value: float) -> dict[str, Any]:
    return {
        "overall": {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 90, "ties": 0}
    }


def finish(run: Run, summary: dict[str, Any] | None = None, **outputs: str) -> None:
    row, token = claimed(run)
    finish_run(run=row, token=token, result=write_outputs(row, summary, **outputs))


def finish_reward_models(
    iteration: Iteration, *, value: float = 0.8, previous: float | None = None
) -> Iteration:
    for run in runs_of(iteration, Stage.REWARD_MODELS):
        before = None if previous is None else accuracy(previous)
        summary = {"accuracy": accuracy(value), "previous_accuracy": before}
        finish(run, summary, reward_model=f"weights of {run.name}")
    return advance_iteration(iteration.pk)


def finish_rejection_sampling(iteration: Iteration) -> Iteration:
    (run,) = runs_of(iteration, Stage.REJECTION_SAMPLING)
    finish(run, {}, policy=f"weights of {run.name}", pool=f"pool of {run.name}")
    return advance_iteration(iteration.pk)


def finish_ppo(iteration: Iteration) -> Iteration:
    (run,) = runs_of(iteration, Stage.PPO)
    finish(run, {}, policy=f"weights of {run.name}", value=f"value of {run.name}")
    return advance_iteration(iteration.pk)


def finish_evaluation(iteration: Iteration, summary: dict[str, Any]) -> Iteration:
    (run,) = runs_of(iteration, Stage.EVALUATION)
    finish(run, summary)
    return advance_iteration(iteration.pk)


def finished_with(iteration: Iteration, name: str, **fields: Any) -> Iteration:
    """Bring `iteration` to its end and start the next one."""
    if not runs_of(iteration, Stage.EVALUATION):
        finish_rejection_sampling(iteration)
    finish_evaluation(iteration, LOST)
    decline_candidate(iteration=iteration, by="ada", reason="the next one is wanted")
    return started(name, **fields)


def inputs_of(run: Run) -> dict[str, Artifact]:
    return {item.role: item.artifact for item in run.run_inputs.select_related("artifact")}


@pytest.mark.django_db
def test_rejection_sampling_alone_goes_through_its_stages_to_a_promoted_policy() -> None:
    policy = make_policy_version()
    rounds = tuple(round_.pk for round_ in judged_rounds())
    iteration = started(policy=policy, rounds=rounds, test_share=0.5, promotion=Promotion.WINNER)
    assert iteration.stage == Stage.SNAPSHOT

    iteration = advance_iteration(iteration.pk)
    assert iteration.stage == Stage.REWARD_MODELS
    assert iteration.snapshot is not None
    assert iteration.snapshot.manifest["num_rows"] == 16
    runs = runs_of(iteration, Stage.REWARD_MODELS)
    assert {run.config["axis"] for run in runs} == {"helpfulness", "safety"}
    assert inputs_of(runs[0]) == {
        "policy": policy.artifact,
        "snapshot": iteration.snapshot.artifact,
    }

    iteration = finish_reward_models(iteration)
    assert iteration.stage == Stage.REJECTION_SAMPLING
    (run,) = runs_of(iteration, Stage.REJECTION_SAMPLING)
    inputs = inputs_of(run)
    assert set(inputs) == {"policy", "start", "prompts", "helpfulness", "safety"}
    assert inputs["helpfulness"].kind == Artifact.Kind.REWARD_MODEL

    iteration = finish_rejection_sampling(iteration)
    assert iteration.stage == Stage.EVALUATION
    candidate = PolicyVersion.objects.get(name="V1")
    assert candidate.iteration == iteration
    (run,) = runs_of(iteration, Stage.EVALUATION)
    inputs = inputs_of(run)
    assert (inputs["policy"], inputs["baseline"]) == (candidate.artifact, policy.artifact)

    iteration = finish_evaluation(iteration, WON)
    assert (iteration.state, iteration.stage) == (State.FINISHED, Stage.DONE)
    candidate.refresh_from_db()
    assert (candidate.is_promoted, candidate.promoted_by) == (True, "iteration V1")


@pytest.mark.django_db
@pytest.mark.parametrize("reference", list(PPOReference))
def test_ppo_goes_on_from_the_rejection_sampled_policy_and_takes_the_name(
    reference: PPOReference,
) -> None:
    policy = make_policy_version()
    iteration = started(
        policy=policy, algorithm=Algorithm.REJECTION_SAMPLING_PPO, ppo_reference=reference
    )
    advance_iteration(iteration.pk)
    finish_reward_models(iteration)
    iteration = finish_rejection_sampling(iteration)

    assert iteration.stage == Stage.PPO
    between = PolicyVersion.objects.get(name="V1 without PPO")
    (run,) = runs_of(iteration, Stage.PPO)
    inputs = inputs_of(run)
    assert inputs["policy"] == between.artifact
    frozen = between.artifact if reference is PPOReference.START else policy.artifact
    assert inputs["reference"] == frozen
    assert inputs["prompts"] != inputs["heldout_prompts"]

    finish_ppo(iteration)
    (run,) = runs_of(iteration, Stage.EVALUATION)
    assert inputs_of(run)["policy"] == PolicyVersion.objects.get(name="V1").artifact
    assert inputs_of(run)["prompts"] != inputs["heldout_prompts"]


@pytest.mark.django_db
@pytest.mark.parametrize("start", list(RewardModelStart))
def test_reward_models_start_from_the_newest_policy_or_from_the_base(
    start: RewardModelStart,
) -> None:
    base, newest = make_policy_version(), make_policy_version()
    iteration = start_iteration(
        name="V2",
        config=IterationConfig(snapshot=imported_snapshot("any").pk, reward_model_start=start),
        base_policy=base,
        start_policy=newest,
        previous_policy=newest,
    )
    iteration = advance_iteration(iteration.pk)
    expected = newest if start is RewardModelStart.NEWEST else base
    for run in runs_of(iteration, Stage.REWARD_MODELS):
        assert inputs_of(run)["policy"] == expected.artifact


@pytest.mark.django_db
@pytest.mark.parametrize("start", list(RejectionSamplingStart))
def test_rejection_sampling_restarts_from_the_base_or_goes_on_from_the_newest_policy(
    start: RejectionSamplingStart,
) -> None:
    base, newest, previous = (make_policy_version() for _ in range(3))
    config = IterationConfig(
        snapshot=imported_snapshot("any").pk,
        rejection_sampling_start=start,
        rejection_sampling=RejectionSamplingConfig(sweep_temperatures=(0.8, 1.2)),
    )
    iteration = start_iteration(
        name="V2",
        config=config,
        base_policy=base,
        start_policy=newest,
        previous_policy=previous,
    )
    iteration = finish_reward_models(advance_iteration(iteration.pk))
    (run,) = runs_of(iteration, Stage.REJECTION_SAMPLING)
    inputs = inputs_of(run)
    assert inputs["policy"] == newest.artifact
    finetuned = base if start is RejectionSamplingStart.BASE else newest
    assert inputs["start"] == finetuned.artifact
    assert run.typed_config == config.rejection_sampling

    iteration = finish_rejection_sampling(iteration)
    assert PolicyVersion.objects.get(name="V2").parent == finetuned
    (run,) = runs_of(iteration, Stage.EVALUATION)
    inputs = inputs_of(run)
    assert (inputs["baseline"], inputs["reference"]) == (previous.artifact, base.artifact)


@pytest.mark.django_db
def test_a_general_model_is_trained_beside_the_axes_and_watches_every_later_run() -> None:
    fields = {"monitor": Monitor.TRAINED, "algorithm": Algorithm.REJECTION_SAMPLING_PPO}
    iteration = advance_iteration(started(**fields).pk)
    *_, run = runs = runs_of(iteration, Stage.REWARD_MODELS)
    assert [one.typed_config.scope for one in runs] == ["helpfulness", "safety", "general"]
    assert inputs_of(run) == inputs_of(runs[0])

    finish_reward_models(iteration)
    version = RewardModelVersion.objects.get(run=run)
    assert (version.axis, version.iteration) == ("general", iteration)
    finish_rejection_sampling(iteration)
    finish_ppo(iteration)
    for stage in (Stage.REJECTION_SAMPLING, Stage.PPO, Stage.EVALUATION):
        (later,) = runs_of(iteration, stage)
        assert inputs_of(later)["general"] == version.artifact

    second = advance_iteration(finished_with(iteration, "V2", monitor=Monitor.TRAINED).pk)
    assert inputs_of(runs_of(second, Stage.REWARD_MODELS)[2])["previous"] == version.artifact


@pytest.mark.django_db
def test_the_newest_general_model_watches_where_none_is_trained() -> None:
    first = advance_iteration(started(monitor=Monitor.TRAINED).pk)
    finish_reward_models(first)
    second = advance_iteration(finished_with(first, "V2", monitor=Monitor.NEWEST).pk)
    assert len(runs_of(second, Stage.REWARD_MODELS)) == 2
    finish_reward_models(second)
    (run,) = runs_of(second, Stage.REJECTION_SAMPLING)
    assert inputs_of(run)["general"] == RewardModelVersion.objects.get(axis="general").artifact


@pytest.mark.django_db
def test_without_a_monitor_nobody_watches() -> None:
    first = advance_iteration(started(monitor=Monitor.TRAINED).pk)
    finish_reward_models(first)
    second = advance_iteration(finished_with(first, "V2").pk)
    finish_reward_models(second)
    (run,) = runs_of(second, Stage.REJECTION_SAMPLING)
    assert "general" not in inputs_of(run)


@pytest.mark.django_db
def test_a_general_model_worse_than_its_predecessor_stops_nothing() -> None:
    iteration = advance_iteration(started(monitor=Monitor.TRAINED).pk)
    helpfulness, safety, general = runs_of(iteration, Stage.REWARD_MODELS)
    for run in (helpfulness, safety):
        summary = {"accuracy": accuracy(0.8), "previous_accuracy": None}
        finish(run, summary, reward_model=f"weights of {run.name}")
    worse = {"accuracy": accuracy(0.6), "previous_accuracy": accuracy(0.9)}
    finish(general, worse, reward_model="weights of the monitor")
    assert advance_iteration(iteration.pk).stage == Stage.REJECTION_SAMPLING


@pytest.mark.django_db
def test_a_monitor_that_is_not_there_fails_with_what_to_do() -> None:
    iteration = advance_iteration(started(monitor=Monitor.NEWEST).pk)
    iteration = finish_reward_models(iteration)
    assert iteration.state == State.FAILED
    assert "monitor: there is no general reward model yet" in iteration.error


@pytest.mark.django_db
def test_the_second_iteration_mixes_earlier_snapshots_and_builds_on_the_first() -> None:
    first = started(promotion=Promotion.WINNER)
    advance_iteration(first.pk)
    finish_reward_models(first)
    finish_rejection_sampling(first)
    first = finish_evaluation(first, WON)
    assert first.snapshot is not None

    second = advance_iteration(started("V2").pk)
    helpfulness, safety = runs_of(second, Stage.REWARD_MODELS)
    for run, earlier in zip(
        (helpfulness, safety), runs_of(first, Stage.REWARD_MODELS), strict=True
    ):
        inputs = inputs_of(run)
        assert inputs["mixture_0"] == first.snapshot.artifact
        assert inputs["previous"] == earlier.run_outputs.get().artifact
        assert "mixture_1" not in inputs

    finish_reward_models(second, value=0.8, previous=0.82)  # within chance
    (run,) = runs_of(second, Stage.REJECTION_SAMPLING)
    (earlier,) = runs_of(first, Stage.REJECTION_SAMPLING)
    assert inputs_of(run)["pool"] == earlier.run_outputs.get(name="pool").artifact


@pytest.mark.django_db
def test_looking_again_makes_no_second_run() -> None:
    iteration = started()
    for _ in range(3):
        advance_iteration(iteration.pk)
    assert Run.objects.filter(iteration=iteration).count() == 2


@pytest.mark.django_db(transaction=True)
def test_workers_that_look_at_the_same_moment_make_each_run_once() -> None:
    iteration = started()
    results = run_at_once([lambda: advance_iteration(iteration.pk)] * 4)
    assert [type(result) for result in results] == [Iteration] * 4
    assert Run.objects.filter(iteration=iteration).count() == 2
    iteration.refresh_from_db()
    assert iteration.stage == Stage.REWARD_MODELS


@pytest.mark.django_db
def test_a_failed_run_fails_the_iteration_and_a_retry_takes_it_up_where_it_was() -> None:
    iteration = advance_iteration(started().pk)
    failing, _ = runs_of(iteration, Stage.REWARD_MODELS)
    row, token = claimed(failing)
    failure = {"error": "ValueError", "message": "no pair is left", "traceback": "..."}
    fail_run(run=row, token=token, failure=failure)
    iteration = advance_iteration(iteration.pk)
    assert (iteration.state, iteration.stage) == (State.FAILED, Stage.REWARD_MODELS)
    name = "V1: helpfulness reward model"
    assert iteration.error == f"run {failing.pk} ({name}) failed: ValueError: no pair is left"
    assert advance_iteration(iteration.pk).state == State.FAILED

    iteration = retry_iteration(iteration=iteration)
    assert (iteration.state, iteration.error) == (State.RUNNING, "")
    failing.refresh_from_db()
    assert failing.state == Run.State.QUEUED
    iteration = finish_reward_models(iteration)
    assert iteration.stage == Stage.REJECTION_SAMPLING
    assert Run.objects.filter(iteration=iteration, stage=Stage.REWARD_MODELS).count() == 2


@pytest.mark.django_db
def test_a_cancelled_run_stops_the_iteration_and_names_who_did_it() -> None:
    iteration = advance_iteration(started().pk)
    run, _ = runs_of(iteration, Stage.REWARD_MODELS)
    row, token = claimed(run)
    request_cancel(run=row, by="ada")
    cancel_run_done(run=row, token=token)
    iteration = advance_iteration(iteration.pk)
    assert iteration.state == State.STOPPED
    assert iteration.error.endswith("was cancelled by ada")


@pytest.mark.django_db
def test_a_reward_model_worse_than_its_predecessor_stops_the_iteration() -> None:
    iteration = advance_iteration(started().pk)
    iteration = finish_reward_models(iteration, value=0.7, previous=0.8)
    assert (iteration.state, iteration.stage) == (State.STOPPED, Stage.REWARD_MODELS)
    assert "the helpfulness reward model is right on 70.0%" in iteration.error
    assert "the safety reward model is right on 70.0%" in iteration.error
    assert not runs_of(iteration, Stage.REJECTION_SAMPLING)


@pytest.mark.django_db
def test_a_reward_model_that_a_gate_stopped_is_nobodys_predecessor() -> None:
    iteration = advance_iteration(started().pk)
    finish_reward_models(iteration, value=0.7, previous=0.8)
    second = advance_iteration(started("V2").pk)
    assert all("previous" not in inputs_of(run) for run in Run.objects.filter(iteration=second))


@pytest.mark.django_db
def test_without_a_gate_a_worse_reward_model_is_used() -> None:
    iteration = advance_iteration(started(gate=Gate.OFF).pk)
    iteration = finish_reward_models(iteration, value=0.7, previous=0.8)
    assert iteration.stage == Stage.REJECTION_SAMPLING


def waiting_for_decision(**fields: Any) -> Iteration:
    iteration = advance_iteration(started(**fields).pk)
    finish_reward_models(iteration)
    finish_rejection_sampling(iteration)
    return finish_evaluation(iteration, fields.pop("result", WON))


@pytest.mark.django_db
def test_a_lead_accepts_the_candidate_once() -> None:
    iteration = waiting_for_decision()
    assert (iteration.state, iteration.stage) == (State.RUNNING, Stage.PROMOTION)
    candidate = accept_candidate(iteration=iteration, by="ada")
    assert (candidate.name, candidate.promoted_by) == ("V1", "ada")
    iteration.refresh_from_db()
    assert iteration.state == State.FINISHED
    with pytest.raises(TransitionError, match="one that waits for a decision"):
        accept_candidate(iteration=iteration, by="bob")


@pytest.mark.django_db
def test_a_lead_declines_the_candidate_with_a_reason() -> None:
    iteration = waiting_for_decision()
    iteration = decline_candidate(iteration=iteration, by="ada", reason="it rambles")
    assert iteration.state == State.STOPPED
    assert iteration.error == "ada declined to promote V1: it rambles"
    assert not PolicyVersion.objects.get(name="V1").is_promoted


@pytest.mark.django_db
def test_a_candidate_that_did_not_win_waits_for_a_lead_even_where_winners_do_not() -> None:
    iteration = advance_iteration(started(promotion=Promotion.WINNER).pk)
    finish_reward_models(iteration)
    finish_rejection_sampling(iteration)
    iteration = finish_evaluation(iteration, LOST)
    assert (iteration.state, iteration.stage) == (State.RUNNING, Stage.PROMOTION)


@pytest.mark.django_db
def test_a_decision_before_the_evaluation_is_refused() -> None:
    iteration = advance_iteration(started().pk)
    with pytest.raises(TransitionError, match="running at stage reward_models"):
        accept_candidate(iteration=iteration, by="ada")


@pytest.mark.django_db
def test_stopping_an_iteration_cancels_its_runs() -> None:
    iteration = advance_iteration(started().pk)
    stop_iteration(iteration=iteration, by="ada", reason="wrong rounds")
    assert (iteration.state, iteration.error) == (State.STOPPED, "stopped by ada: wrong rounds")
    states = {run.state for run in Run.objects.filter(iteration=iteration)}
    assert states == {Run.State.CANCELLED}


@pytest.mark.django_db
def test_a_retry_waits_until_no_other_iteration_is_running() -> None:
    first = advance_iteration(started().pk)
    stop_iteration(iteration=first, by="ada", reason="later")
    started("V2")
    with pytest.raises(IterationRunningError, match="V2"):
        retry_iteration(iteration=first)
    first.refresh_from_db()
    assert first.state == State.STOPPED


@pytest.mark.django_db
def test_a_running_iteration_cannot_be_retried() -> None:
    iteration = started()
    with pytest.raises(TransitionError):
        retry_iteration(iteration=iteration)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rounds": ()}, "RecordError: rounds: an iteration needs rounds or a snapshot"),
        ({"rounds": (987654,)}, "RecordError: rounds: there are no rounds [987654]"),
        ({"snapshot": 987654}, "RecordError: snapshot: there is no snapshot 987654"),
        ({"mixture": (987654,)}, "RecordError: mixture: there are no snapshots [987654]"),
    ],
)
def test_a_config_that_names_what_is_not_there_fails_with_the_field(
    fields: dict[str, Any], reason: str
) -> None:
    iteration = advance_iteration(started(**fields).pk)
    assert (iteration.state, iteration.error) == (State.FAILED, reason)


@pytest.mark.django_db
def test_a_snapshot_that_exists_is_taken_instead_of_rounds() -> None:
    first = advance_iteration(started().pk)
    stop_iteration(iteration=first, by="ada", reason="again")
    assert first.snapshot is not None
    second = advance_iteration(started("V2", snapshot=first.snapshot.pk).pk)
    assert second.snapshot == first.snapshot
    assert "mixture_0" not in inputs_of(runs_of(second, Stage.REWARD_MODELS)[0])


def test_a_config_survives_json_and_names_the_wrong_axis() -> None:
    config = IterationConfig(rounds=(3, 4), ppo=PPOConfig(num_iterations=7))
    assert IterationConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match=r"safety\.axis"):
        IterationConfig(safety=RewardModelConfig(axis=Axis.HELPFULNESS))
    with pytest.raises(ValueError, match=r"general_model\.is_general"):
        IterationConfig(general_model=RewardModelConfig())
    with pytest.raises(ValueError, match=r"helpfulness\.data_share"):
        IterationConfig(helpfulness=RewardModelConfig(data_share=0.5))


def test_ppo_on_one_base_needs_adapters_of_that_base_all_along() -> None:
    adapted = {
        "algorithm": Algorithm.REJECTION_SAMPLING_PPO,
        "helpfulness": RewardModelConfig(lora_rank=8),
        "safety": RewardModelConfig(axis=Axis.SAFETY, lora_rank=8),
        "rejection_sampling": RejectionSamplingConfig(finetune=SFTConfig(lora_rank=4)),
        "ppo": PPOConfig(lora_rank=4, reward_network=RewardNetwork.ADAPTERS),
        "ppo_reference": PPOReference.BASE,
        "reward_model_start": RewardModelStart.BASE,
    }
    IterationConfig(**adapted)
    newest = {"rejection_sampling_start": RejectionSamplingStart.NEWEST}
    with pytest.raises(RecordError, match=r"^rejection_sampling_start: ppo\.reward"):
        IterationConfig(**adapted | newest)
    for left_out, named in (
        ("helpfulness", "helpfulness.lora_rank"),
        ("safety", "safety.lora_rank"),
        ("rejection_sampling", "rejection_sampling.finetune.lora_rank"),
        ("ppo_reference", "ppo_reference"),
        ("reward_model_start", "reward_model_start"),
    ):
        rest = {name: value for name, value in adapted.items() if name != left_out}
        with pytest.raises(RecordError, match=f"^{named}: ppo.reward_network"):
            IterationConfig(**rest)
    unused = {"ppo": adapted["ppo"], "algorithm": Algorithm.REJECTION_SAMPLING}
    IterationConfig(**unused)
