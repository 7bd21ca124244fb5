"""Presets become drafts, which a lead edits and publishes."""

from collections.abc import Sequence

from django.db import transaction

from annotation.histories import prompt_of
from annotation.models import Judgement, Qualification, User
from annotation.presets import PAPER_TESTS, TUTORIAL, Preset
from annotation.scale import Side
from annotation.services.qualifications import (
    QuestionFields,
    create_qualification,
    save_part,
    save_question,
)

PRESETS = (*PAPER_TESTS, TUTORIAL)


def make_presets(*, lead: User, presets: Sequence[Preset] = PRESETS) -> list[Qualification]:
    """Make a draft of each preset whose name is free, all or none; return those made.

    Raises:
        NotAllowedError: The person is no lead.
    """
    with transaction.atomic():
        names = [preset.fields.name for preset in presets]
        taken = set(Qualification.objects.filter(name__in=names).values_list("name", flat=True))
        return [_make(lead, preset) for preset in presets if preset.fields.name not in taken]


def question_of_judgement(judgement: Judgement) -> QuestionFields:
    """Return a pair of the platform as a question: both responses, and the one that was chosen."""
    comparison = judgement.comparison
    samples = {sample.side: sample.text for sample in comparison.samples.all()}
    dialogue = "\n\n".join(
        f"**{str(turn.role).capitalize()}:** {turn.text}" for turn in prompt_of(comparison).turns
    )
    return QuestionFields(
        "pair",
        dialogue,
        (samples[Side.LEFT], samples[Side.RIGHT]),
        0 if judgement.displayed_side == Side.LEFT else 1,
    )


def _make(lead: User, preset: Preset) -> Qualification:
    made = create_qualification(lead=lead, fields=preset.fields)
    for fields, questions in preset.parts:
        part = save_part(lead=lead, qualification=made, fields=fields)
        for question in questions:
            save_question(lead=lead, part=part, fields=question)
    return made
