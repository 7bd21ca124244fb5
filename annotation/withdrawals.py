"""What a withdrawal reaches: judgements no snapshot takes any more, and who learned from them."""

from typing import NamedTuple

from django.db.models import Exists, OuterRef, QuerySet

from annotation.access import LEADS, require_role
from annotation.errors import NotFoundError
from annotation.models import Judgement, User, Withdrawal
from records.snapshots import preference_ids_of
from registry.models import PolicyVersion, RewardModelVersion, Snapshot
from registry.selectors import learners_of


class SnapshotUse(NamedTuple):
    """A snapshot that holds judgements of somebody who withdrew."""

    snapshot: Snapshot
    num_judgements: int


class Reach(NamedTuple):
    """Everything that learned from the judgements of a withdrawal."""

    num_judgements: int
    snapshots: tuple[SnapshotUse, ...]
    reward_models: tuple[RewardModelVersion, ...]
    policies: tuple[PolicyVersion, ...]


def withdrawn(author: str = "annotator") -> Exists:
    """Return the condition, for a query of what people made, that its author took it back since.

    Args:
        author: The field of the queried model that names the author.
    """
    return Exists(
        Withdrawal.objects.filter(
            annotator=OuterRef(author), created_at__gte=OuterRef("created_at")
        )
    )


def get_withdrawal_for(lead: User, pk: int) -> Withdrawal:
    """Return a withdrawal, for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    withdrawal = Withdrawal.objects.select_related("annotator").filter(pk=pk).first()
    if withdrawal is None:
        raise NotFoundError("withdrawal", pk)
    return withdrawal


def reach_of(withdrawal: Withdrawal) -> Reach:
    """Return every snapshot, reward model and policy that learned from what was taken back.

    Snapshots of the rounds concerned are opened and looked into, so the list is exact.
    """
    taken_back = _judgements_of(withdrawal)
    round_ids = set(taken_back.values_list("comparison__round", flat=True).distinct())
    ids = {str(uuid) for uuid in taken_back.values_list("uuid", flat=True)}
    pseudonym = withdrawal.annotator.pseudonym
    uses = [
        SnapshotUse(snapshot, len(held))
        for snapshot in Snapshot.objects.select_related("artifact").order_by("pk")
        if _rounds_in(snapshot) & round_ids
        and (held := ids & preference_ids_of(snapshot.artifact.location, annotator=pseudonym))
    ]
    learners = [learners_of(use.snapshot.artifact) for use in uses]
    models = {model.pk: model for found in learners for model in found.reward_models}
    policies = {policy.pk: policy for found in learners for policy in found.policies}
    return Reach(
        num_judgements=len(ids),
        snapshots=tuple(uses),
        reward_models=tuple(models[pk] for pk in sorted(models)),
        policies=tuple(policies[pk] for pk in sorted(policies)),
    )


def _judgements_of(withdrawal: Withdrawal) -> QuerySet[Judgement]:
    """Return what this withdrawal took back, and no earlier one had."""
    mine = Judgement.with_retracted.filter(
        annotator=withdrawal.annotator_id, created_at__lte=withdrawal.created_at
    )
    earlier = (
        Withdrawal.objects.filter(annotator=withdrawal.annotator_id, pk__lt=withdrawal.pk)
        .order_by("-pk")
        .first()
    )
    return mine if earlier is None else mine.filter(created_at__gt=earlier.created_at)


def _rounds_in(snapshot: Snapshot) -> set[int]:
    return {int(item["id"]) for item in snapshot.manifest["selection"].get("rounds", [])}
