"""What tests begin with: plain functions that go through the services."""

import io
import itertools
import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annotation import services as annotation
from annotation.models import (
    Assignment,
    Attempt,
    Comparison,
    Demonstration,
    DemonstrationReview,
    Dialogue,
    Guidelines,
    Judgement,
    Qualification,
    Round,
    Slot,
    User,
)
from annotation.questions import Value
from annotation.scale import Side
from records.preferences import Axis, Rating, SafetyBin
from records.round_items import ItemKind, read_round_items
from registry import services as registry
from registry.models import Artifact, Iteration, PolicyVersion

PASSWORD = "correct-horse-battery"
_numbers = itertools.count(1)


def make_user(
    role: User.Role, username: str = "", *, password: str = "", persona: str = ""
) -> User:
    """Return a person; without `password` only `force_login` signs them in, which is quick."""
    return annotation.create_user(
        username=username or f"{role}-{next(_numbers)}",
        role=role,
        password=password,
        persona=persona,
    )


def make_annotator(username: str = "", *, persona: str = "") -> User:
    return make_user(User.Role.ANNOTATOR, username, persona=persona)


def make_reviewer(username: str = "") -> User:
    return make_user(User.Role.REVIEWER, username)


def make_lead(username: str = "") -> User:
    return make_user(User.Role.LEAD, username)


def make_admin(username: str = "") -> User:
    return make_user(User.Role.ADMIN, username)


def make_artifact(kind: str = Artifact.Kind.POLICY, *, text: str = "") -> Artifact:
    """Return an artifact: a folder with one small file; equal texts are equal artifacts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        path.mkdir()
        (path / "content.txt").write_text(text or f"content {next(_numbers)}")
        return registry.publish_artifact(path=path, kind=kind)


def make_policy_version(name: str = "", *, is_promoted: bool = True) -> PolicyVersion:
    name = name or f"policy-{next(_numbers)}"
    artifact = make_artifact(text=f"weights of {name}")
    version = registry.register_policy(name=name, artifact=artifact)
    return registry.promote_policy(version=version, by="test") if is_promoted else version


def make_iteration(name: str = "", *, policy: PolicyVersion | None = None) -> Iteration:
    policy = policy or make_policy_version()
    return registry.create_iteration(
        name=name or f"V{next(_numbers)}",
        config={},
        base_policy=policy,
        start_policy=policy,
        previous_policy=policy,
    )


def make_guidelines(axis: Axis = Axis.HELPFULNESS, *, lead: User | None = None) -> Guidelines:
    return annotation.publish_guidelines(
        axis=axis,
        version=f"{next(_numbers)}",
        text=f"Choose the better response; what counts is {axis}.",
        created_by=lead or make_lead(),
    )


def newest_guidelines(axis: Axis) -> Guidelines | None:
    return Guidelines.objects.filter(axis=axis).order_by("-pk").first()


def open_test_round(
    name: str = "",
    *,
    axis: Axis = Axis.HELPFULNESS,
    policies: Sequence[PolicyVersion] = (),
    target_comparisons: int = 100,
    max_turns: int = 3,
    lead: User | None = None,
    overlap: annotation.Overlap = annotation.NO_OVERLAP,
    guidance: annotation.Guidance = annotation.NO_GUIDANCE,
) -> Round:
    """Return an open round that two policy versions answer in."""
    lead = lead or make_lead()
    policies = policies or [make_policy_version(), make_policy_version()]
    return annotation.open_round(
        name=name or f"round-{next(_numbers)}",
        axis=axis,
        guidelines=newest_guidelines(axis) or make_guidelines(axis, lead=lead),
        variants=[annotation.NewVariant(policy) for policy in policies],
        target_comparisons=target_comparisons,
        max_turns=max_turns,
        opened_by=lead,
        overlap=overlap,
        guidance=guidance,
    )


def prompt_line(
    name: object, *texts: str, opening: Sequence[str] = (), system: str = "", **fields: object
) -> dict[str, Any]:
    """Return a line of an imported prompt: its user turns are `texts`, said after `opening`."""
    first, *later = texts or (f"question {name}",)
    roles = itertools.cycle(("user", "assistant"))
    turns = [{"role": role, "text": text} for role, text in zip(roles, (*opening, first))]  # noqa: B905
    line = {"prompt_id": str(name), "dialogue": {"system": system, "turns": turns}}
    return line | ({"next_turns": later} if later else {}) | fields


def pair_line(
    name: object, *responses: str, sources: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """Return a line of an imported pair."""
    texts = responses or (f"{name} is the answer.", f"Nobody knows about {name}.")
    rows = [{"text": text} for text in texts]
    for row, source in zip(rows, sources, strict=False):
        row["source"] = source
    return prompt_line(name, **options) | {"responses": rows}


def lines_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def open_imported_round(
    *rows: Mapping[str, Any],
    axis: Axis = Axis.HELPFULNESS,
    policies: Sequence[PolicyVersion] = (),
    max_turns: int = 3,
    lead: User | None = None,
    overlap: annotation.Overlap = annotation.NO_OVERLAP,
    max_new_tokens: int = 64,
) -> Round:
    """Return an open round that asks `rows`: pairs where they hold responses, else prompts."""
    lead = lead or make_lead()
    is_pairs = "responses" in rows[0]
    source = Round.Source.PAIRS if is_pairs else Round.Source.PROMPTS
    policies = policies or ([] if is_pairs else [make_policy_version(), make_policy_version()])
    file = io.BytesIO(lines_of(rows))
    return annotation.open_round(
        name=f"imported-{next(_numbers)}",
        axis=axis,
        guidelines=newest_guidelines(axis) or make_guidelines(axis, lead=lead),
        variants=[
            annotation.NewVariant(policy, max_new_tokens=max_new_tokens) for policy in policies
        ],
        max_turns=1 if is_pairs else max_turns,
        opened_by=lead,
        overlap=overlap,
        source=source,
        items=read_round_items(file, "items.jsonl", ItemKind(source.value)),
    )


def start_test_dialogue(annotator: User, round_: Round) -> Dialogue:
    return annotation.start_dialogue(annotator=annotator, round_=round_, client_key=uuid.uuid4())


def write_test_prompt(
    annotator: User, dialogue: Dialogue, text: str = "How do I boil an egg?"
) -> Comparison:
    return annotation.write_prompt(
        annotator=annotator, dialogue=dialogue, text=text, client_key=uuid.uuid4()
    )


def draw_samples(texts: Sequence[str] = ("Boil it.", "I do not know.")) -> list[Comparison]:
    """Answer every comparison that waits with the two `texts`, as a sampler would."""
    jobs = annotation.claim_comparisons_for_sampling(limit=1000, worker="test-sampler")
    return [answer_job(job, texts) for job in jobs]


def draw_ahead(
    texts: Sequence[str] = ("Then boil it.", "I still do not know."),
) -> list[Comparison]:
    """Answer every comparison that is drawn before anybody waits for it, as a sampler would."""
    jobs = annotation.claim_ahead_for_sampling(limit=1000, worker="test-sampler")
    return [answer_job(job, texts) for job in jobs]


def answer_job(job: annotation.SamplingJob, texts: Sequence[str]) -> Comparison:
    samples = [
        annotation.NewSample(
            text=text,
            policy=request.policy,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            num_tokens=len(text.split()),
            is_finished=True,
        )
        for request, text in zip(job.requests, texts, strict=True)
    ]
    return annotation.store_samples(comparison_id=job.comparison_id, samples=samples)


def make_ready_comparison(
    annotator: User | None = None,
    *,
    round_: Round | None = None,
    dialogue: Dialogue | None = None,
    text: str = "How do I boil an egg?",
    texts: Sequence[str] = ("Boil it.", "I do not know."),
) -> Comparison:
    """Return a comparison whose two responses are there."""
    annotator = annotator or (dialogue.annotator if dialogue else make_annotator())
    dialogue = dialogue or start_test_dialogue(annotator, round_ or open_test_round())
    comparison = write_test_prompt(annotator, dialogue, text)
    draw_samples(texts)
    comparison.refresh_from_db()
    return comparison


def judge(
    comparison: Comparison,
    *,
    side: Side = Side.LEFT,
    rating: Rating = Rating.BETTER,
    safety_bin: SafetyBin | None = None,
    client_key: uuid.UUID | None = None,
) -> Judgement:
    """Judge a ready comparison as its author; in a safety round both are safe unless told."""
    if safety_bin is None and comparison.round.axis == Axis.SAFETY:
        safety_bin = SafetyBin.BOTH_SAFE
    return annotation.submit_comparison(
        annotator=comparison.dialogue.annotator,
        comparison=comparison,
        chosen_sample_id=comparison.samples.get(side=side).pk,
        rating=rating,
        safety_bin=safety_bin,
        client_key=client_key or uuid.uuid4(),
        active_seconds=12.5,
    )


def make_judgement(
    annotator: User | None = None, *, round_: Round | None = None, dialogue: Dialogue | None = None
) -> Judgement:
    return judge(make_ready_comparison(annotator, round_=round_, dialogue=dialogue))


def judge_slot(
    slot: Slot,
    *,
    side: Side = Side.LEFT,
    rating: Rating = Rating.BETTER,
    safety_bin: SafetyBin | None = None,
    client_key: uuid.UUID | None = None,
    annotator: User | None = None,
) -> Judgement:
    """Judge a slot as who holds it; in a safety round both are safe unless told."""
    if safety_bin is None and slot.round.axis == Axis.SAFETY:
        safety_bin = SafetyBin.BOTH_SAFE
    assert slot.annotator is not None
    return annotation.submit_slot(
        annotator=annotator or slot.annotator,
        slot=slot,
        chosen_sample_id=slot.comparison.samples.get(side=side).pk,
        rating=rating,
        safety_bin=safety_bin,
        client_key=client_key or uuid.uuid4(),
        active_seconds=9.0,
    )


def make_qualification(
    *parts: tuple[annotation.PartFields, Sequence[annotation.QuestionFields]],
    name: str = "",
    kind: str = "test",
    max_attempts: int = 2,
    valid_days: int | None = None,
) -> Qualification:
    """Return a published test, or tutorial; without `parts` one pair whose first side is better."""
    lead = make_lead()
    fields = annotation.QualificationFields(
        name=name or f"test-{next(_numbers)}",
        kind=kind,
        max_attempts=max_attempts,
        valid_days=valid_days,
    )
    made = annotation.create_qualification(lead=lead, fields=fields)
    for part_fields, questions in parts or [(annotation.PartFields("Pairs"), [PAIR])]:
        part = annotation.save_part(lead=lead, qualification=made, fields=part_fields)
        for question in questions:
            annotation.save_question(lead=lead, part=part, fields=question)
    return annotation.publish_qualification(lead=lead, qualification=made)


PAIR = annotation.QuestionFields(
    "pair", "How do I boil an egg?", ("In water.", "I do not know."), 0, 0, "The first one helps."
)


def take_part(
    annotator: User, qualification: Qualification, *values: Value, submits: bool = True
) -> Attempt:
    """Answer the next part's questions with `values`, in order, and hand it in."""
    attempt = annotation.start_attempt(annotator=annotator, qualification=qualification)
    sitting = annotation.start_sitting(annotator=annotator, attempt=attempt)
    questions = sitting.part.questions.order_by("position")
    answers = {q.pk: value for q, value in zip(questions, values, strict=False)}
    if not submits:
        annotation.save_answers(annotator=annotator, sitting=sitting, values=answers)
        return attempt
    return annotation.submit_sitting(annotator=annotator, sitting=sitting, values=answers)


def grade_all(attempt: Attempt, *grades: int) -> Attempt:
    """Grade the written answers of the whole attempt, in order, part by part."""
    reviewer, rest = make_reviewer(), list(grades)
    for sitting in attempt.sittings.order_by("part__position"):
        answers = sitting.answers.filter(value__isnull=False).order_by("question__position")
        if not sitting.part.is_graded_by_hand:
            continue
        given = {answer.pk: rest.pop(0) for answer in answers}
        attempt = annotation.grade_sitting(
            reviewer=reviewer, sitting=sitting, grades=given, notes={}
        )
    return attempt


def open_test_assignment(
    name: str = "",
    *,
    axis: Axis = Axis.HELPFULNESS,
    target_demonstrations: int = 100,
    max_turns: int = 3,
    vendor: str = "",
    lead: User | None = None,
) -> Assignment:
    lead = lead or make_lead()
    return annotation.open_assignment(
        name=name or f"assignment-{next(_numbers)}",
        axis=axis,
        guidelines=make_guidelines(axis, lead=lead),
        target_demonstrations=target_demonstrations,
        max_turns=max_turns,
        vendor=vendor,
        opened_by=lead,
    )


def start_test_demonstration(author: User, assignment: Assignment) -> Demonstration:
    return annotation.start_demonstration(
        author=author, assignment=assignment, client_key=uuid.uuid4()
    )


def words(
    *texts: str, axis: str = Axis.HELPFULNESS, active_seconds: float = 60.0
) -> annotation.NewRevision:
    """Return a revision of `texts`, spoken by user, assistant, user, ..."""
    texts = texts or ("How do I boil an egg?", "Eight minutes in boiling water.")
    turns = [
        annotation.NewTurn(prompt, response)
        for prompt, response in zip(texts[::2], texts[1::2], strict=True)
    ]
    is_safety = axis == Axis.SAFETY
    return annotation.NewRevision(
        turns,
        risk_category="illicit_and_criminal" if is_safety else "",
        attack_vector="logic_manipulation" if is_safety else "",
        active_seconds=active_seconds,
    )


def make_demonstration(
    *texts: str, author: User | None = None, assignment: Assignment | None = None
) -> Demonstration:
    """Return a demonstration that waits for review."""
    assignment = assignment or open_test_assignment()
    author = author or make_annotator()
    demonstration = start_test_demonstration(author, assignment)
    return annotation.submit_demonstration(
        author=author,
        demonstration=demonstration,
        revision=words(*texts, axis=assignment.axis),
        client_key=uuid.uuid4(),
    )


def decide(
    demonstration: Demonstration,
    decision: str = "approved",
    *,
    reviewer: User | None = None,
    edited: annotation.NewRevision | None = None,
    feedback: str = "",
) -> DemonstrationReview:
    """Review what waits of a demonstration; a rejection says something."""
    demonstration.refresh_from_db()
    assert demonstration.current is not None
    review = annotation.review_demonstration(
        reviewer=reviewer or make_reviewer(),
        revision=demonstration.current,
        decision=decision,
        edited=edited,
        feedback=feedback or ("Say why." if decision == "rejected" else ""),
        client_key=uuid.uuid4(),
    )
    demonstration.refresh_from_db()
    return review
