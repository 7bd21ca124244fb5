"""What reviewers see of a report on a reward model: the judgements it disputes."""

from typing import Any, NamedTuple
from uuid import UUID

from annotation.models import Judgement
from records.run_configs import RunKind
from registry.models import Run

_NUM_REPORTS = 5


class DisputedJudgement(NamedTuple):
    """A judgement, and how sure a reward model is of the opposite."""

    judgement: Judgement
    confidence: float


def disputed_judgements() -> list[DisputedJudgement]:
    """Return the judgements that the newest reports dispute, the surest first; three queries.

    Each report names its hundred surest at most. Imported comparisons are not ours to review.
    """
    reports = Run.objects.filter(kind=RunKind.REWARD_EVALUATION, state=Run.State.FINISHED)
    newest = reports.order_by("-pk").values_list("result", flat=True)[:_NUM_REPORTS]
    confidences: dict[UUID, float] = {}
    for result in newest:
        for item in (result or {}).get("disagreements", []):
            uuid = uuid_of(item["preference_id"])
            if uuid is not None:
                confidences[uuid] = max(item["confidence"], confidences.get(uuid, 0.0))
    rows = (
        Judgement.objects.filter(uuid__in=confidences)
        .select_related("comparison__round", "annotator")
        .prefetch_related("exclusions")
    )
    found = [DisputedJudgement(row, confidences[row.uuid]) for row in rows]
    return sorted(found, key=lambda item: (-item.confidence, item.judgement.pk))


def uuid_of(preference_id: Any) -> UUID | None:  # noqa: ANN401 - stored JSON
    """Return the judgement's id that a preference carries; None for an imported one."""
    try:
        return UUID(str(preference_id))
    except ValueError:
        return None
