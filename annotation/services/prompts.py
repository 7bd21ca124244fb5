"""Dialogues and prompts: an annotator begins to talk, and writes the next turn."""

import uuid

from django.db import IntegrityError, transaction
from django.db.models import TextChoices

from annotation.access import ANNOTATORS, require_role
from annotation.eligibility import require_may_work
from annotation.errors import (
    DialogueClosedError,
    KeyReusedError,
    NotEligibleError,
    NotFoundError,
    PromptError,
    PromptPendingError,
    RoundClosedError,
    RoundFullError,
)
from annotation.likeness import bands_of
from annotation.models import Comparison, Dialogue, PromptBand, Round, User
from annotation.services.drafts import save_draft
from annotation.services.guidelines import begin_with_guidelines
from annotation.services.items import take_item
from annotation.services.texts import MAX_CHARACTERS, problem_of
from annotation.slots import lease_until, take_slot

MAX_PROMPT_CHARACTERS = MAX_CHARACTERS


def start_dialogue(*, annotator: User, round_: Round, client_key: uuid.UUID) -> Dialogue:
    """Begin a dialogue in an open round; the same client key finds the same dialogue.

    Where the round asks imported items, it is the one in hand or the next one that is for them.

    Raises:
        NotAllowedError: The person is no annotator.
        RoundClosedError: The round takes no more work.
        PausedError: Annotation is paused.
        NotEligibleError: Something is missing before this person may work in the round.
        NoItemLeftError: No imported item is for this person.
        KeyReusedError: The key came with another round or person.
    """
    require_role(annotator, ANNOTATORS)
    existing = Dialogue.objects.filter(client_key=client_key).first()
    if existing is None and not round_.is_open:
        raise RoundClosedError(round_.name)
    if existing is None:
        require_may_work(annotator, round_, begins=True)
        with transaction.atomic():
            begin_with_guidelines(annotator=annotator, guidelines=round_.guidelines)
            if round_.is_imported:
                return take_item(annotator=annotator, round_=round_, client_key=client_key)
            existing, _ = Dialogue.objects.get_or_create(
                client_key=client_key, defaults={"annotator": annotator, "round": round_}
            )
    if (existing.annotator_id, existing.round_id) != (annotator.pk, round_.pk):
        raise KeyReusedError
    return existing


def write_prompt(
    *,
    annotator: User,
    dialogue: Dialogue,
    text: str,
    client_key: uuid.UUID,
    risk_category: str = "",
    attack_vector: str = "",
) -> Comparison:
    """Store the dialogue's next prompt; the comparison waits for its responses and holds a slot.

    The same client key finds the same comparison. If the round has no slot left or has closed, or
    the annotator may not go on in it now, the text is kept as the dialogue's draft.

    Raises:
        NotFoundError: The dialogue is not this annotator's.
        PromptError: The text is empty, too long or holds marks of the chat format.
        DialogueClosedError: The dialogue has ended, has all its turns, or asks what was imported.
        PromptPendingError: The dialogue's last prompt is not judged yet.
        RoundClosedError, RoundFullError: The round takes no more work.
        NotEligibleError: Something is missing before this person may work in the round.
    """
    require_role(annotator, ANNOTATORS)
    if dialogue.annotator_id != annotator.pk:
        raise NotFoundError("dialogue", dialogue.pk)
    repeated = Comparison.objects.filter(client_key=client_key).first()
    if repeated is not None:
        return _same(repeated, dialogue)
    if dialogue.is_imported:
        raise DialogueClosedError("its prompts are imported")
    text = checked_text(text)
    try:
        require_may_work(annotator, dialogue.round, begins=False)
        return _store_prompt(dialogue, text, client_key, risk_category, attack_vector)
    except (RoundClosedError, RoundFullError, NotEligibleError):
        fields = {"text": text, "risk_category": risk_category, "attack_vector": attack_vector}
        save_draft(annotator=annotator, dialogue=dialogue, fields=fields)
        raise
    except IntegrityError as error:
        # Two tabs at once: the unique constraints let one through.
        repeated = Comparison.objects.filter(client_key=client_key).first()
        if repeated is not None:
            return _same(repeated, dialogue)
        if dialogue.comparisons.live().exists():
            raise PromptPendingError from error
        raise


def _store_prompt(
    dialogue: Dialogue, text: str, client_key: uuid.UUID, risk_category: str, attack_vector: str
) -> Comparison:
    with transaction.atomic():
        locked = (
            Dialogue.objects.select_related("round")
            .select_for_update(of=("self",), no_key=True)
            .get(pk=dialogue.pk)
        )
        round_ = locked.round
        if not locked.is_open:
            raise DialogueClosedError("it has ended")
        if locked.num_turns >= round_.max_turns:
            raise DialogueClosedError(f"it has all its {round_.max_turns} turns")
        if not round_.is_open:
            raise RoundClosedError(round_.name)
        take_slot(round_)
        comparison = Comparison.objects.create(
            dialogue=locked,
            round=round_,
            turn=locked.num_turns,
            prompt_text=text,
            risk_category=_choice(Comparison.RiskCategory, "a risk category", risk_category),
            attack_vector=_choice(Comparison.AttackVector, "an attack vector", attack_vector),
            client_key=client_key,
            lease_expires_at=lease_until(),
        )
        if comparison.turn == 0:
            PromptBand.objects.bulk_create(
                PromptBand(round=round_, comparison=comparison, value=value)
                for value in bands_of(text)
            )
        locked.drafts.all().delete()
    return comparison


def _same(comparison: Comparison, dialogue: Dialogue) -> Comparison:
    if comparison.dialogue_id != dialogue.pk:
        raise KeyReusedError
    return comparison


def checked_text(text: str, what: str = "prompt") -> str:
    """Return what a person wrote, stripped, if a policy can learn from it.

    Raises:
        PromptError: It is empty, too long or holds marks of the chat format.
    """
    text = text.strip()
    if not text:
        raise PromptError(f"write a {what} first: it is empty")
    problem = problem_of(text, f"a {what}")
    if problem is not None:
        raise PromptError(problem)
    return text


def _choice(choices: type[TextChoices], what: str, value: str) -> str:
    if value and value not in choices.values:
        raise PromptError(f"{value!r} is not {what}: {', '.join(choices.values)}")
    return value
