"""Demonstrations: an author begins one, sends it, sends it again after feedback, or gives it up."""

import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.access import ANNOTATORS, require_role
from annotation.errors import (
    AssignmentClosedError,
    AssignmentFullError,
    DemonstrationError,
    DemonstrationStateError,
    KeyReusedError,
    NotFoundError,
    PromptError,
)
from annotation.models import (
    Assignment,
    Comparison,
    Demonstration,
    DemonstrationRevision,
    DemonstrationTurn,
    Draft,
    User,
)
from annotation.pauses import require_no_pause
from annotation.services.assignments import WRITING_LEASE, give_back_places, take_place
from annotation.services.drafts import save_draft
from annotation.services.prompts import checked_text
from annotation.services.verdicts import MAX_ACTIVE_SECONDS
from records.preferences import Axis


class NewTurn(NamedTuple):
    """One exchange as it is sent."""

    prompt: str
    response: str


class NewRevision(NamedTuple):
    """The words of a demonstration as they are sent."""

    turns: Sequence[NewTurn]
    risk_category: str = ""
    attack_vector: str = ""
    active_seconds: float = 0.0

    def as_fields(self) -> dict[str, str]:
        """Return the words under the names of form fields, as a draft keeps them."""
        fields = {"risk_category": self.risk_category, "attack_vector": self.attack_vector}
        for index, turn in enumerate(self.turns):
            fields[f"prompt_{index}"] = turn.prompt
            fields[f"response_{index}"] = turn.response
        return {**fields, "num_turns": str(len(self.turns))}


def start_demonstration(
    *, author: User, assignment: Assignment, client_key: uuid.UUID
) -> Demonstration:
    """Begin a demonstration and take a place; one that is being written already is returned.

    Raises:
        NotAllowedError: The person is no annotator.
        PausedError: Annotation is paused.
        AssignmentClosedError, AssignmentFullError: The assignment takes no more.
        KeyReusedError: The key came with another assignment or person.
    """
    require_role(author, ANNOTATORS)
    existing = _begun(author, assignment, client_key)
    if existing is not None:
        return existing
    require_no_pause(author)
    if not assignment.is_open:
        raise AssignmentClosedError(assignment.name)
    try:
        with transaction.atomic():
            take_place(assignment)
            return Demonstration.objects.create(
                assignment=assignment,
                author=author,
                client_key=client_key,
                lease_expires_at=timezone.now() + WRITING_LEASE,
            )
    except IntegrityError:
        # Two tabs at once: the unique constraints let one through.
        existing = _begun(author, assignment, client_key)
        if existing is None:
            raise
        return existing


def submit_demonstration(
    *, author: User, demonstration: Demonstration, revision: NewRevision, client_key: uuid.UUID
) -> Demonstration:
    """Send a demonstration to the reviewers: a further revision; earlier ones stay.

    All or nothing; the same client key again changes nothing. Where the lease has lapsed it is
    still taken while there is a place; if there is none, the words are kept as a draft.

    Raises:
        NotFoundError: The demonstration is not this author's.
        DemonstrationError: A value does not fit; names the field.
        DemonstrationStateError: It is being reviewed, approved or withdrawn.
        AssignmentClosedError, AssignmentFullError: There is no place for it any more.
    """
    require_role(author, ANNOTATORS)
    if demonstration.author_id != author.pk:
        raise NotFoundError("demonstration", demonstration.pk)
    if _sent_with(client_key, demonstration, author):
        demonstration.refresh_from_db()
        return demonstration
    checked = check_revision(revision, demonstration.assignment)
    try:
        with transaction.atomic():
            locked = lock_demonstration(demonstration)
            if not locked.is_in_hands:
                wanted = "one that is being written or came back"
                raise DemonstrationStateError(locked.state, wanted)
            if not locked.holds_slot:
                if not locked.assignment.is_open:
                    raise AssignmentClosedError(locked.assignment.name)
                take_place(locked.assignment)
            locked.current = add_revision(locked, checked, author, client_key)
            locked.state, locked.holds_slot = Demonstration.State.SUBMITTED, True
            locked.save(update_fields=["state", "holds_slot", "current", "num_revisions"])
            locked.drafts.filter(annotator=author).delete()
    except (AssignmentClosedError, AssignmentFullError):
        save_draft(annotator=author, demonstration=demonstration, fields=revision.as_fields())
        raise
    except (IntegrityError, DemonstrationStateError):
        # The same form again; if at the same time, it has waited for the first one's lock.
        if not _sent_with(client_key, demonstration, author):
            raise
        demonstration.refresh_from_db()
        return demonstration
    return locked


def withdraw_demonstration(*, author: User, demonstration: Demonstration) -> Demonstration:
    """Give up a demonstration that is the author's turn; its words stay, its place is free.

    Idempotent.

    Raises:
        NotFoundError: The demonstration is not this author's.
        DemonstrationStateError: It is being reviewed or approved.
    """
    require_role(author, ANNOTATORS)
    if demonstration.author_id != author.pk:
        raise NotFoundError("demonstration", demonstration.pk)
    with transaction.atomic():
        locked = lock_demonstration(demonstration)
        if locked.state == Demonstration.State.WITHDRAWN:
            return locked
        if not locked.is_in_hands:
            raise DemonstrationStateError(locked.state, "one that is being written or came back")
        held_slot = locked.holds_slot
        locked.state, locked.holds_slot = Demonstration.State.WITHDRAWN, False
        locked.save(update_fields=["state", "holds_slot"])
        if held_slot:
            give_back_places(locked.assignment_id)
    return locked


def keep_demonstration_draft(
    *, person: User, demonstration: Demonstration, fields: Mapping[str, str]
) -> Draft:
    """Keep what an author or a reviewer has typed; an author's lease begins anew.

    Raises:
        NotFoundError: The demonstration is not this person's.
        ValueError: The fields are too long.
    """
    draft = save_draft(annotator=person, demonstration=demonstration, fields=fields)
    Demonstration.objects.filter(
        pk=demonstration.pk,
        author=person,
        state=Demonstration.State.WRITING,
        holds_slot=True,
    ).update(lease_expires_at=timezone.now() + WRITING_LEASE)
    return draft


def lock_demonstration(demonstration: Demonstration) -> Demonstration:
    """Lock the row until the transaction ends, and return it as it is now."""
    return (
        Demonstration.objects.select_related("assignment", "current")
        .select_for_update(of=("self",), no_key=True)
        .get(pk=demonstration.pk)
    )


def check_revision(revision: NewRevision, assignment: Assignment) -> NewRevision:
    """Return the revision with its texts stripped.

    Raises:
        DemonstrationError: A text, the number of turns, the risk or the attack does not fit.
    """
    if not 1 <= len(revision.turns) <= assignment.max_turns:
        message = f"{len(revision.turns)} turns are not between 1 and {assignment.max_turns}"
        raise DemonstrationError("num_turns", message)
    if not 0.0 <= revision.active_seconds <= MAX_ACTIVE_SECONDS:
        message = f"{revision.active_seconds} is not within a day"
        raise DemonstrationError("active_seconds", message)
    turns = [
        NewTurn(
            _checked(f"prompt_{index}", turn.prompt, "prompt"),
            _checked(f"response_{index}", turn.response, "response"),
        )
        for index, turn in enumerate(revision.turns)
    ]
    is_safety = assignment.axis == Axis.SAFETY
    for field, choices, what in (
        ("risk_category", Comparison.RiskCategory, "the risk the prompt probes"),
        ("attack_vector", Comparison.AttackVector, "how the prompt tries"),
    ):
        value = getattr(revision, field)
        if is_safety and value not in choices.values:
            raise DemonstrationError(field, f"choose {what}: {', '.join(choices.values)}")
        if value and not is_safety:
            raise DemonstrationError(field, f"a {assignment.axis} assignment does not ask {what}")
    return revision._replace(turns=turns)


def add_revision(
    demonstration: Demonstration, revision: NewRevision, written_by: User, client_key: uuid.UUID
) -> DemonstrationRevision:
    """Store checked words as the locked demonstration's next revision, and count it."""
    demonstration.num_revisions += 1
    row = DemonstrationRevision.objects.create(
        demonstration=demonstration,
        number=demonstration.num_revisions,
        written_by=written_by,
        guidelines_id=demonstration.assignment.guidelines_id,
        risk_category=revision.risk_category,
        attack_vector=revision.attack_vector,
        client_key=client_key,
        active_seconds=revision.active_seconds,
    )
    DemonstrationTurn.objects.bulk_create(
        DemonstrationTurn(
            revision=row, turn=index, prompt_text=turn.prompt, response_text=turn.response
        )
        for index, turn in enumerate(revision.turns)
    )
    return row


def _begun(author: User, assignment: Assignment, client_key: uuid.UUID) -> Demonstration | None:
    keyed = Demonstration.objects.filter(client_key=client_key).first()
    if keyed is not None and (keyed.author_id, keyed.assignment_id) != (author.pk, assignment.pk):
        raise KeyReusedError
    return (
        keyed
        or Demonstration.objects.filter(
            author=author, assignment=assignment, state=Demonstration.State.WRITING
        ).first()
    )


def _sent_with(client_key: uuid.UUID, demonstration: Demonstration, author: User) -> bool:
    revision = DemonstrationRevision.objects.filter(client_key=client_key).first()
    if revision is None:
        return False
    if (revision.demonstration_id, revision.written_by_id) != (demonstration.pk, author.pk):
        raise KeyReusedError
    return True


def _checked(field: str, text: str, what: str) -> str:
    try:
        return checked_text(text, what)
    except PromptError as error:
        raise DemonstrationError(field, str(error)) from error
