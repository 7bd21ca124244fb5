"""Rendering anew what an earlier renderer made: after an update that changed it."""

from collections.abc import Iterator

from annotation.models import Round, Sample
from annotation.rendering import RENDERER, rendered

_ROWS_AT_ONCE = 500


def render_responses() -> Iterator[int]:
    """Render the responses of open rounds that the renderer in use has not rendered.

    Pages show the right HTML without it; they are only quicker with it. It may be cut off and run
    again, and beside annotators: it changes nothing that they change. Yields after each batch how
    many were rendered in it.
    """
    last = 0
    while True:
        # Open rounds alone: what is closed is not judged any more.
        stale = Sample.objects.filter(
            comparison__round__state=Round.State.OPEN, pk__gt=last
        ).exclude(renderer=RENDERER)
        batch = list(stale.order_by("pk").only("text")[:_ROWS_AT_ONCE])
        if not batch:
            return
        for sample in batch:
            made = rendered(sample.text)
            sample.html, sample.renderer = made["html"], made["renderer"]
        Sample.objects.bulk_update(batch, ["html", "renderer"])
        last = batch[-1].pk
        yield len(batch)
