"""The sandbox demo: base, SFT, versions by rejection sampling, the last of them by PPO too."""

from collections.abc import Sequence
from functools import partial

from django.db import transaction

from annotation.models import Guidelines, Round, User
from annotation.services import NewVariant, close_round, open_round, publish_guidelines
from records.iteration_configs import Algorithm, Gate, IterationConfig, Promotion
from records.preferences import Axis
from records.prompts import Demonstration, write_demonstrations, write_prompts
from records.run_configs import RunKind
from registry.models import Artifact, Iteration, PolicyVersion, RewardModelVersion, Run
from registry.services import promote_policy
from simulation.corpus import sample_corpus, sample_demonstrations, sample_prompts
from workers.demo.people import crowd, logins
from workers.demo.report import VersionFigures, accuracies
from workers.demo.runs import finished_iteration, finished_run, publish_lines
from workers.demo.scales import SandboxScale
from workers.demo.screen import Screen
from workers.simulated import run_crowd

_GUIDELINES = {
    Axis.HELPFULNESS: (
        "Choose the response that helps more: right, complete, polite, and no longer than needed. "
        "A refusal of a harmless request helps nobody."
    ),
    Axis.SAFETY: (
        "Write requests that tempt the model into harm. Choose the safer response; among safe "
        "ones the more helpful. The best refusal says why and offers something better."
    ),
}


def run_sandbox(screen: Screen, scale: SandboxScale) -> list[VersionFigures]:
    """Run or finish the sandbox demo and return the figures of its versions.

    Every step has a name; a step that an earlier start finished is not done again.
    """
    lead = logins().lead
    screen.headline("A policy that speaks: base model and SFT")
    base, sft = _first_policies(screen, scale)
    prompts = publish_lines(
        lambda path: write_prompts(
            path,
            sample_prompts(7, scale.num_evaluation_prompts, scale.evaluation_safety_share),
        ),
        Artifact.Kind.PROMPTS,
    )
    versions: list[PolicyVersion] = []
    for index in range(scale.num_versions):
        before, newest = [base, sft, *versions][-2:]
        screen.headline(f"Preferences on {newest.name}: simulated annotators, through the queue")
        rounds = _collect(screen, scale, lead, index=index, variants=(newest, before))
        is_last = index + 1 == scale.num_versions
        name = f"V{index + 1}"
        screen.headline(f"{name}: reward models, rejection sampling{', PPO' if is_last else ''}")
        config = _iteration_config(scale, rounds, prompts, with_ppo=is_last)
        versions.append(_iterate(screen, name, config, base=base, start=newest, baseline=sft))
    screen.headline("All versions on the same held-out prompts")
    runs = [_evaluate(screen, scale, version, sft, prompts) for version in versions]
    return _figures(sft, versions, runs)


def _first_policies(screen: Screen, scale: SandboxScale) -> tuple[PolicyVersion, PolicyVersion]:
    corpus = publish_lines(
        lambda path: write_demonstrations(
            path,
            (
                Demonstration(
                    prompt=type(dialogue)(dialogue.turns[:-1]),
                    response=dialogue.turns[-1].text,
                    source="sandbox corpus",
                )
                for dialogue in sample_corpus(1, scale.num_corpus_dialogues)
            ),
        ),
        Artifact.Kind.DEMONSTRATIONS,
    )
    demonstrations = publish_lines(
        lambda path: write_demonstrations(path, sample_demonstrations(2, scale.num_demonstrations)),
        Artifact.Kind.DEMONSTRATIONS,
    )
    finished_run(
        screen,
        name="Base model",
        kind=RunKind.PRETRAIN,
        config=scale.pretrain,
        inputs={"demonstrations": corpus},
        output_name="Base",
    )
    base = PolicyVersion.objects.get(name="Base")
    finished_run(
        screen,
        name="SFT",
        kind=RunKind.SFT,
        config=scale.sft,
        inputs={"policy": base.artifact, "demonstrations": demonstrations},
        output_name="SFT",
    )
    sft = PolicyVersion.objects.get(name="SFT")
    return base, promote_policy(version=sft, by="demo")


def _collect(
    screen: Screen,
    scale: SandboxScale,
    lead: User,
    *,
    index: int,
    variants: Sequence[PolicyVersion],
) -> list[Round]:
    rounds = []
    for axis in Axis:
        target = scale.num_comparisons(axis, index)
        name = f"Round {index + 1}, {axis}"
        round_ = Round.objects.filter(name=name).first()
        if round_ is None:
            round_ = open_round(
                name=name,
                axis=axis,
                guidelines=_guidelines(axis, lead),
                variants=[NewVariant(policy, 0.8, 1.2, 1.0, 48) for policy in variants],
                target_comparisons=target,
                max_turns=scale.max_turns,
                opened_by=lead,
            )
        if round_.state == Round.State.OPEN:
            with screen.bars() as bars:
                report = run_crowd(
                    round_,
                    crowd(scale.num_annotators),
                    seed=1000 * index,
                    on_progress=partial(bars.set, name),
                )
                per_second = report.num_judged / max(report.seconds, 1e-9)
                bars.set(name, report.num_judged, target, f"{per_second:.0f} comparisons/s")
            close_round(round_=round_, closed_by=lead)
        rounds.append(round_)
    return rounds


def _guidelines(axis: Axis, lead: User) -> Guidelines:
    return publish_guidelines(axis=axis, version="1", text=_GUIDELINES[axis], created_by=lead)


def _iteration_config(
    scale: SandboxScale, rounds: Sequence[Round], prompts: Artifact, *, with_ppo: bool
) -> IterationConfig:
    return IterationConfig(
        rounds=tuple(round_.pk for round_ in rounds),
        test_share=scale.test_share,
        algorithm=Algorithm.REJECTION_SAMPLING_PPO if with_ppo else Algorithm.REJECTION_SAMPLING,
        evaluation_prompts=prompts.digest,
        max_prompts=scale.max_prompts,
        gate=Gate.NOT_WORSE,
        promotion=Promotion.WINNER,
        helpfulness=scale.helpfulness,
        safety=scale.safety,
        rejection_sampling=scale.rejection_sampling,
        ppo=scale.ppo,
        evaluation=scale.evaluation,
    )


def _iterate(
    screen: Screen,
    name: str,
    config: IterationConfig,
    *,
    base: PolicyVersion,
    start: PolicyVersion,
    baseline: PolicyVersion,
) -> PolicyVersion:
    iteration = finished_iteration(
        screen,
        name=name,
        config=config,
        base_policy=base,
        start_policy=start,
        previous_policy=baseline,
    )
    version = PolicyVersion.objects.filter(iteration=iteration).order_by("-pk").first()
    assert version is not None, f"iteration {name} finished without a policy"
    return version


def _evaluate(
    screen: Screen,
    scale: SandboxScale,
    version: PolicyVersion,
    sft: PolicyVersion,
    prompts: Artifact,
) -> Run:
    newest = Iteration.objects.order_by("-number").values("pk")[:1]
    reward_models = RewardModelVersion.objects.filter(iteration__in=newest)
    return finished_run(
        screen,
        name=f"{version.name} against {sft.name}",
        kind=RunKind.EVALUATION,
        config=scale.evaluation,
        inputs={
            "policy": version.artifact,
            "baseline": sft.artifact,
            "reference": sft.artifact,
            "prompts": prompts,
            **{model.axis: model.artifact for model in reward_models},
        },
    )


@transaction.atomic
def _figures(
    sft: PolicyVersion, versions: Sequence[PolicyVersion], runs: Sequence[Run]
) -> list[VersionFigures]:
    rows = []
    for version, run in zip(versions, runs, strict=True):
        result = run.result
        assert result is not None, f"{run} finished without a result"
        models = RewardModelVersion.objects.filter(iteration=version.iteration)
        rows.append(
            VersionFigures(
                name=version.name,
                win_rate=result["win_rate"],
                win_rate_low=result["win_rate_low"],
                win_rate_high=result["win_rate_high"],
                violation_rate=result["violation_rate"],
                accuracy={model.axis: accuracies(model.metrics) for model in models},
                reward=result["reward"],
                kl=result["kl"],
            )
        )
    baseline = runs[-1].result
    assert baseline is not None, f"{runs[-1]} finished without a result"
    itself = VersionFigures(
        name=sft.name,
        win_rate=0.5,  # against itself, by definition
        win_rate_low=0.5,
        win_rate_high=0.5,
        violation_rate=baseline["baseline_violation_rate"],
        reward=baseline["baseline_reward"],
        kl=0.0,
    )
    return [itself, *rows]
