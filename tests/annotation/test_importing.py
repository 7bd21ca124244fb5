"""Graded sets in the database: a closed round with its people, stored once, streamed in lots."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from annotation.errors import NotAllowedError
from annotation.models import Judgement, JudgementKind, Round, User
from annotation.quality.measuring import Figures
from annotation.selectors import counter_drift
from annotation.services import ImportedRound, import_graded_set, importing, measure_round
from records.dialogues import Dialogue
from records.errors import RecordError
from records.graded import (
    GradedComparison,
    GradedImport,
    GradedJudgement,
    GradedSet,
    ModelResponse,
)
from records.graded_sets import read_graded_set
from records.imports import ImportReport
from tests.factories import make_annotator, make_lead

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Settings) -> None:
    settings.DATA_DIR = tmp_path / "data"


def graded(
    name: str, *grades: tuple[str, int], turns: tuple[str, ...] = ("Hi?",), second: str = "second"
) -> GradedComparison:
    return GradedComparison(
        comparison_id=name,
        dialogue_id=name,
        prompt=Dialogue.from_texts(*turns),
        first=ModelResponse("ape", "first"),
        second=ModelResponse("zebra", second),
        judgements=tuple(GradedJudgement(*grade) for grade in grades),
    )


def import_rows(lead: User, *rows: GradedComparison, fails: bool = False) -> ImportedRound:
    def read(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
        yield from rows
        if fails:
            raise RecordError("preference", "rows.jsonl.gz line 9: is missing")

    source = GradedSet("small", "Small set", "small", 2, read, "MIT", True)
    report = ImportReport()
    data = GradedImport(source=source, comparisons=read(Path(), report), report=report)
    return import_graded_set(data=data, imported_by=lead)


def test_judgements_keep_their_people_degrees_and_responses() -> None:
    result = import_rows(
        make_lead(), graded("x", ("ann", 2), ("bob", -1), ("ann", 1)), graded("y", ("bob", 1))
    )
    assert (result.num_comparisons, result.num_judgements) == (2, 4)
    stored = [
        (j.slot, j.kind, j.annotator.username, j.rating, j.chosen_sample.text)
        for j in Judgement.objects.filter(comparison__prompt_text="Hi?").order_by("pk")
    ]
    assert stored == [
        (0, JudgementKind.AUTHOR, "import-small-ann", "better", "first"),
        (1, JudgementKind.OVERLAP, "import-small-bob", "slightly_better", "second"),
        (2, JudgementKind.REPEAT, "import-small-ann", "slightly_better", "first"),
        (0, JudgementKind.AUTHOR, "import-small-bob", "slightly_better", "first"),
    ]
    round_ = result.round
    assert (round_.state, round_.num_judged, round_.target_comparisons) == ("closed", 2, 2)
    assert counter_drift(round_) == {}
    assert not User.objects.get(username="import-small-ann").has_usable_password()
    policies = {j.chosen_sample.policy.name for j in Judgement.objects.all()}
    assert policies == {"small/ape", "small/zebra"}


def test_what_our_scale_and_pages_do_not_know_is_left_out_and_counted() -> None:
    result = import_rows(
        make_lead(),
        graded("tie", ("ann", 0)),
        graded("half", ("ann", 0), ("bob", 1)),
        graded("turns", ("ann", 1), turns=("a", "b", "c")),
        graded("same", ("ann", 1), second="first"),
        graded("empty", ("ann", 1), second=""),
    )
    assert (result.num_comparisons, result.num_judgements) == (1, 1)
    assert +result.skipped == {
        "only ties": 1,
        "tie": 1,
        "prompt of several turns": 1,
        "both sides are identical": 1,
        "empty response": 1,
    }


def test_an_import_that_was_cut_off_goes_on_and_a_second_one_adds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    lead = make_lead()
    rows = [graded(str(number), ("ann", 1), ("bob", -2)) for number in range(5)]
    with pytest.raises(RecordError, match="line 9"):
        import_rows(lead, *rows[:2], fails=True)
    assert Round.objects.get().num_judged == 2
    result = import_rows(lead, *rows)
    assert (result.num_comparisons, result.num_known) == (3, 2)
    again = import_rows(lead, *rows)
    assert (again.num_comparisons, again.num_known, Judgement.objects.count()) == (0, 5, 10)
    assert counter_drift(again.round) == {}


def test_only_a_lead_imports() -> None:
    with pytest.raises(NotAllowedError):
        import_rows(make_annotator(), graded("x", ("ann", 1)))


@pytest.mark.parametrize("name", ["tulu1", "pandalm"])
def test_a_shared_set_agrees_in_the_database_as_in_its_file(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "CONCORD_DATA" not in os.environ:
        pytest.skip("CONCORD_DATA does not point to the shared data sets")
    folder = Path(os.environ["CONCORD_DATA"])
    make_lead()
    call_command("import_comparisons", folder, name=name)
    assert "comparisons and" in capsys.readouterr().out
    round_ = Round.objects.get()
    figures = Figures.from_json(measure_round(round_=round_).figures)
    expected = _agreement_by_hand(name, folder)
    assert figures.num_shared == expected[0]
    assert figures.numbers["direction"].value == pytest.approx(expected[1], abs=1e-12)
    assert counter_drift(round_) == {}


def _agreement_by_hand(name: str, folder: Path) -> tuple[int, float]:
    """Return shared comparisons and the share of pairs of one direction, counted pair by pair."""
    num_shared = agreed = pairs = 0
    for item in read_graded_set(name, folder).comparisons:
        if item.problem:
            continue
        first: dict[str, int] = {}
        for judgement in item.judgements:
            if judgement.grade:
                first.setdefault(judgement.annotator, judgement.grade)
        signs = [grade > 0 for grade in first.values()]
        num_shared += len(signs) >= 2
        for index, sign in enumerate(signs):
            for other in signs[:index]:
                pairs += 1
                agreed += sign == other
    return num_shared, agreed / pairs
