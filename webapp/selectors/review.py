"""What the pages of review show: the queue by filter, and judgements to look through."""

from typing import NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from annotation.models import Judgement, ReviewItem
from annotation.review_selectors import Place, QueueFilter, next_item, queue_page
from records.preferences import Axis

PAGE_SIZE = 30


class JudgementsPage(NamedTuple):
    """One page of judgements, and where the next one begins."""

    judgements: list[Judgement]
    next_before: int | None


class QueueView(NamedTuple):
    """The part of the queue a reviewer works through: it goes with every link and form."""

    queue: QueueFilter
    after: Place | None

    @classmethod
    def of(cls, query: QueryDict) -> "QueueView":
        """Return the view that a query string names; what it does not know it leaves out."""
        source, axis = query.get("source", ""), query.get("axis", "")
        round_id, state = query.get("round", ""), query.get("state", "")
        queue = QueueFilter(
            source=source if source in ReviewItem.Source.values else "",
            round_id=int(round_id) if round_id.isdecimal() else None,
            axis=axis if axis in list(Axis) else "",
            state=state if state == ReviewItem.State.UNCLEAR else ReviewItem.State.OPEN,
        )
        return cls(queue, Place.parse(query.get("after", "")))

    @property
    def query(self) -> str:
        """The filters as a query string, empty or with its question mark."""
        queue = self.queue
        named = {
            "source": queue.source,
            "round": queue.round_id or "",
            "axis": queue.axis,
            "state": queue.state if queue.state != ReviewItem.State.OPEN else "",
            "after": str(self.after) if self.after else "",
        }
        text = urlencode({name: value for name, value in named.items() if value})
        return f"?{text}" if text else ""

    def address_of(self, item: ReviewItem) -> str:
        """Return the page of an item, from which the next one comes after it."""
        placed = self._replace(after=Place(item.priority, item.pk))
        return reverse("review-comparison", args=[item.comparison_id]) + placed.query

    def next_address(self, comparison_id: int) -> str:
        """Return the page of the next item, or the queue where there is none."""
        item = next_item(self.queue, after=self.after, except_comparison=comparison_id)
        if item is None:
            return reverse("review") + self._replace(after=None).query
        return self.address_of(item)


class QueueRow(NamedTuple):
    """An item of the queue with its address."""

    item: ReviewItem
    url: str


def queue_rows(view: QueueView) -> tuple[list[QueueRow], Place | None]:
    """Return one page of the queue, and the place where the next one begins."""
    found = queue_page(view.queue, after=view.after, limit=PAGE_SIZE + 1)
    page = found[:PAGE_SIZE]
    last = Place(page[-1].priority, page[-1].pk) if len(found) > PAGE_SIZE else None
    return [QueueRow(item, view.address_of(item)) for item in page], last


def judgement_list(shown: str, *, before: int | None = None) -> JudgementsPage:
    """Return judgements below id `before`: `excluded`, `corrected`, or all of them."""
    rows = Judgement.objects.select_related("comparison__round", "annotator", "chosen_sample")
    rows = rows.prefetch_related("exclusions", "corrections")
    if shown == "excluded":
        rows = rows.filter(exclusions__is_active=True)
    elif shown == "corrected":
        rows = rows.filter(corrections__is_active=True)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    return JudgementsPage(page, page[-1].pk if len(found) > PAGE_SIZE else None)
