"""Uploads of items: received, checked, accepted or dropped, and added once."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from annotation import services
from annotation.errors import NotAllowedError, RoundClosedError, RoundConfigError, StateError
from annotation.models import ItemUpload, Round, User
from annotation.services import uploading
from tests.factories import (
    lines_of,
    make_lead,
    make_reviewer,
    open_imported_round,
    open_test_round,
    pair_line,
    prompt_line,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db
TWO_TURNS = prompt_line("a", "How do I boil an egg?", "And how long?")


def upload(
    round_: Round, *rows: dict[str, Any], content: bytes | None = None, name: str = "more.jsonl"
) -> ItemUpload:
    data = lines_of(rows) if content is None else content
    return services.receive_items(
        lead=round_.opened_by, round_=round_, name=name, chunks=[data[:50], data[50:]]
    )


def checked(round_: Round, *rows: dict[str, Any]) -> ItemUpload:
    made = services.work_on_upload(upload(round_, *rows).pk)
    assert made is not None
    return made


def numbers(made: ItemUpload) -> Sequence[int]:
    return made.num_items, made.num_turns, made.num_known, made.num_left_out


def test_a_check_says_what_is_new_and_adds_nothing() -> None:
    round_ = open_imported_round(TWO_TURNS, prompt_line("b"))
    made = checked(round_, TWO_TURNS, prompt_line("c", "1", "2", "3"), prompt_line("d"))
    assert (made.state, numbers(made)) == ("checked", (2, 4, 1, 0))
    round_.refresh_from_db()
    assert (round_.target_comparisons, round_.items.count()) == (3, 2)


def test_what_was_checked_is_added_once_it_is_accepted() -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, TWO_TURNS, prompt_line("c", "1", "2", "3"))
    assert services.work_on_upload(made.pk) is None  # nobody has said yes yet
    path = uploading.path_of(made)
    assert path.exists()
    for _ in range(2):
        services.accept_upload(lead=make_lead(), upload=made)
    shares: list[float] = []
    added = services.work_on_upload(made.pk, on_progress=shares.append)
    assert added is not None
    assert (added.state, numbers(added)) == ("added", (1, 3, 1, 0))
    assert shares == [1.0]
    round_.refresh_from_db()
    assert (round_.target_comparisons, round_.items.count()) == (5, 2)
    assert not path.exists()
    assert services.work_on_upload(made.pk) is None
    assert services.accept_upload(lead=make_lead(), upload=made).state == "added"


def test_unusable_pairs_are_left_out_and_counted_by_reason() -> None:
    round_ = open_imported_round(pair_line("a"))
    made = checked(round_, pair_line("b", "Same.", "Same."), pair_line("c"))
    assert numbers(made) == (1, 1, 0, 1)
    assert made.left_out == {"identical": 1}


def test_a_gzipped_file_is_unpacked() -> None:
    round_ = open_imported_round(TWO_TURNS)
    packed = gzip.compress(lines_of([prompt_line("c")]))
    made = services.work_on_upload(upload(round_, content=packed, name="more.jsonl.gz").pk)
    assert made is not None
    assert numbers(made) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (
            [prompt_line("c"), {"prompt_id": "d"}],
            "dialogue: more.jsonl line 2: is missing",
        ),
        (
            [prompt_line("c", *"12345")],
            "next_turns: more.jsonl line 1: 5 turns are more than the 3 of the round",
        ),
        (
            [prompt_line("c"), prompt_line("c")],
            "prompt_id: more.jsonl line 2: is that of line 1 too",
        ),
        (
            [*(prompt_line(number) for number in range(600)), prompt_line("3")],
            "prompt_id: more.jsonl line 601: is that of line 4 too",
        ),
        (
            [prompt_line("a", "Another question under the same name.")],
            "prompt_id: more.jsonl line 1: 'a' is in the round already, with other contents",
        ),
    ],
)
def test_a_wrong_line_is_named_with_its_field(rows: list[dict[str, Any]], error: str) -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, *rows)
    assert (made.state, made.error) == ("refused", error)
    assert not uploading.path_of(made).exists()
    assert round_.items.count() == 1


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "MAX_UNPACKED_BYTES", 1000)
    round_ = open_imported_round(TWO_TURNS)
    packed = gzip.compress(b"\n" * 100_000)
    made = services.work_on_upload(upload(round_, content=packed, name="more.gz").pk)
    assert made is not None
    assert made.error == "file: more.gz unpacks to more than 1,000 bytes"


def test_a_file_too_large_empty_or_of_another_kind_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    round_ = open_imported_round(TWO_TURNS)
    with pytest.raises(RoundConfigError, match="file: it is empty"):
        upload(round_)
    with pytest.raises(RoundConfigError, match=r"'week.csv' does not end in one of \.jsonl"):
        upload(round_, TWO_TURNS, name="week.csv")
    with pytest.raises(RoundConfigError, match="its name has 206 characters, more than 200"):
        upload(round_, TWO_TURNS, name="x" * 200 + ".jsonl")
    monkeypatch.setattr(uploading, "MAX_UPLOAD_BYTES", 60)
    with pytest.raises(RoundConfigError, match="file: it is larger than 0 MB"):
        upload(round_, TWO_TURNS)
    assert not ItemUpload.objects.exists()
    assert list(uploading.path_of(ItemUpload()).parent.iterdir()) == []


def test_a_name_leads_to_no_other_place() -> None:
    made = upload(open_imported_round(TWO_TURNS), TWO_TURNS, name="../../etc/x.jsonl")
    path: Path = uploading.path_of(made)
    assert path.name == str(made.uuid)
    assert path.parent.name == "uploads"


def test_a_round_that_takes_no_items_takes_no_upload() -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, prompt_line("c"))
    services.close_round(round_=round_, closed_by=round_.opened_by)
    with pytest.raises(RoundClosedError):
        upload(round_, prompt_line("d"))
    services.accept_upload(lead=round_.opened_by, upload=made)
    refused = services.work_on_upload(made.pk)
    assert refused is not None
    assert refused.state == "refused"
    assert refused.error == f"round {round_.name!r} is closed"
    with pytest.raises(RoundConfigError, match="are written in it"):
        upload(open_test_round(), TWO_TURNS)


def test_nothing_new_is_not_added() -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, TWO_TURNS)
    assert numbers(made) == (0, 0, 1, 0)
    with pytest.raises(StateError, match="without new items"):
        services.accept_upload(lead=round_.opened_by, upload=made)


def test_a_dropped_upload_is_over() -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, prompt_line("c"))
    for _ in range(2):
        assert services.drop_upload(lead=round_.opened_by, upload=made).state == "dropped"
    assert not uploading.path_of(made).exists()
    with pytest.raises(StateError, match="dropped"):
        services.accept_upload(lead=round_.opened_by, upload=made)


@pytest.mark.parametrize("make", [make_reviewer])
def test_only_a_lead_uploads_accepts_and_drops(make: Any) -> None:
    person: User = make()
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, prompt_line("c"))
    with pytest.raises(NotAllowedError):
        services.receive_items(lead=person, round_=round_, name="a.jsonl", chunks=[b"{}"])
    with pytest.raises(NotAllowedError):
        services.accept_upload(lead=person, upload=made)
    with pytest.raises(NotAllowedError):
        services.drop_upload(lead=person, upload=made)


def test_an_error_nobody_foresaw_ends_an_upload() -> None:
    made = upload(open_imported_round(TWO_TURNS), prompt_line("c"))
    services.fail_upload(upload_id=made.pk, error="MemoryError: ")
    made.refresh_from_db()
    assert (made.state, made.error) == ("refused", "MemoryError: ")
    services.fail_upload(upload_id=made.pk, error="again")
    made.refresh_from_db()
    assert made.error == "MemoryError: "


@pytest.mark.django_db(transaction=True)
def test_two_workers_add_the_items_once() -> None:
    round_ = open_imported_round(TWO_TURNS)
    made = checked(round_, *(prompt_line(number) for number in range(20)))
    services.accept_upload(lead=round_.opened_by, upload=made)
    results = run_at_once([lambda: services.work_on_upload(made.pk)] * 3)
    assert not [result for result in results if isinstance(result, Exception)]
    assert len([result for result in results if result is not None]) == 1
    round_.refresh_from_db()
    assert (round_.items.count(), round_.target_comparisons) == (21, 22)
