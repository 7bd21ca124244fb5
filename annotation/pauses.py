"""Whether annotation is paused, and for whom."""

from annotation.errors import PausedError
from annotation.models import Pause, User


def active_pause() -> Pause | None:
    """Return the pause that holds now, None where annotation goes on; one row of a small index."""
    return Pause.objects.active().select_related("begun_by").first()


def pause_for(annotator: User) -> Pause | None:
    """Return the pause that this person works under; simulated annotators have no pauses."""
    return None if annotator.is_simulated else active_pause()


def require_no_pause(annotator: User) -> None:
    """Pass if this person may be given a new task.

    Raises:
        PausedError: Annotation is paused; says why and until when.
    """
    pause = pause_for(annotator)
    if pause is not None:
        raise PausedError(pause.notice)
