"""What the pages of demonstrations show to authors, reviewers and leads."""

from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import QuerySet

from annotation.demonstration_selectors import (
    VendorQuality,
    demonstrations_to_review,
    reviews_of,
    revisions_of,
    vendor_quality,
)
from annotation.models import (
    Assignment,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    DemonstrationSet,
    User,
)
from registry.models import Run, RunInput
from registry.selectors import Learners, learners_of
from webapp.forms.demonstrations import words_of_category

PAGE_SIZE = 30


class ReviewView(NamedTuple):
    """One decision in a history."""

    review: DemonstrationReview
    categories: list[str]


@dataclass(frozen=True, kw_only=True)
class DemonstrationPage:
    """A demonstration with all its words and decisions."""

    demonstration: Demonstration
    current: DemonstrationRevision | None
    revisions: list[DemonstrationRevision]
    reviews: list[ReviewView]

    @property
    def last_review(self) -> ReviewView | None:
        """The newest decision."""
        return self.reviews[-1] if self.reviews else None

    @property
    def earlier(self) -> list[DemonstrationRevision]:
        """The revisions that do not count any more, the newest first."""
        return [row for row in reversed(self.revisions) if row != self.current]


class ListedDemonstration(NamedTuple):
    """A demonstration in a list, with how it begins."""

    demonstration: Demonstration
    first_prompt: str


class ReviewQueue(NamedTuple):
    """One page of what waits for review."""

    rows: list[ListedDemonstration]
    next_after: int | None


@dataclass(frozen=True, kw_only=True)
class AssignmentsPage:
    """The lead's view of everything that is written."""

    assignments: list[Assignment]
    vendors: list[VendorQuality]
    sets: list[DemonstrationSet]


@dataclass(frozen=True, kw_only=True)
class SetPage:
    """A frozen set, the runs that read it, and what learned from it."""

    demonstration_set: DemonstrationSet
    runs: list[Run]
    learners: Learners


def demonstration_page(demonstration: Demonstration) -> DemonstrationPage:
    """Gather the page of one demonstration; a handful of queries."""
    revisions = revisions_of(demonstration)
    current = next((row for row in revisions if row.pk == demonstration.current_id), None)
    reviews = [
        ReviewView(review, [words_of_category(value) for value in review.categories])
        for review in reviews_of(demonstration)
    ]
    return DemonstrationPage(
        demonstration=demonstration, current=current, revisions=revisions, reviews=reviews
    )


def demonstrations_of(author: User) -> list[ListedDemonstration]:
    """Return an author's newest demonstrations, those to go on with first, none given up."""
    mine = Demonstration.objects.filter(author=author).exclude(state=Demonstration.State.WITHDRAWN)
    newest = _listed(mine.select_related("assignment").order_by("-pk")[:PAGE_SIZE])
    return sorted(newest, key=lambda row: not row.demonstration.is_in_hands)


def review_queue(*, after: int | None, axis: str) -> ReviewQueue:
    """Return one page of the queue beyond id `after`; its cost does not depend on its length."""
    found = _listed(demonstrations_to_review(after=after, axis=axis)[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    return ReviewQueue(page, page[-1].demonstration.pk if len(found) > PAGE_SIZE else None)


def next_to_review(demonstration: Demonstration, axis: str) -> Demonstration | None:
    """Return what waits after this one, or the first that waits; None where nothing does."""
    beyond = demonstrations_to_review(after=demonstration.pk, axis=axis).first()
    return beyond or demonstrations_to_review(axis=axis).exclude(pk=demonstration.pk).first()


def assignments_page() -> AssignmentsPage:
    """Gather assignments, the open ones first, vendors and frozen sets."""
    assignments = Assignment.objects.select_related("guidelines").order_by("-state", "-pk")
    return AssignmentsPage(
        assignments=list(assignments),
        vendors=vendor_quality(),
        sets=list(DemonstrationSet.objects.select_related("artifact").order_by("-pk")),
    )


def recent_in(assignment: Assignment) -> list[ListedDemonstration]:
    """Return the newest demonstrations sent for an assignment."""
    sent = Demonstration.objects.filter(assignment=assignment, current__isnull=False)
    return _listed(sent.select_related("author").order_by("-pk")[:PAGE_SIZE])


def set_page(demonstration_set: DemonstrationSet) -> SetPage:
    """Gather a set with the runs that read it and the versions that learned from it."""
    readers = RunInput.objects.filter(artifact=demonstration_set.artifact_id)
    runs = Run.objects.filter(pk__in=readers.values("run")).order_by("-pk")[:PAGE_SIZE]
    return SetPage(
        demonstration_set=demonstration_set,
        runs=list(runs),
        learners=learners_of(demonstration_set.artifact),
    )


def _listed(rows: QuerySet[Demonstration]) -> list[ListedDemonstration]:
    """Return the rows with their first prompts; two queries."""
    found = list(rows)
    first = DemonstrationRevision.objects.filter(
        pk__in=[row.current_id for row in found], turns__turn=0
    )
    prompts = dict(first.values_list("pk", "turns__prompt_text"))
    return [ListedDemonstration(row, prompts.get(row.current_id or 0, "")) for row in found]
