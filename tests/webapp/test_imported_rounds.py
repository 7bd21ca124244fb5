"""Rounds over imported material: opened by an upload, judged on the page where others write."""

import gzip
import re
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from annotation.models import Comparison, Dialogue, ImportedItem, Judgement, Round, User
from annotation.scale import Side
from tests.factories import (
    draw_ahead,
    draw_samples,
    judge,
    lines_of,
    make_annotator,
    make_guidelines,
    make_lead,
    make_policy_version,
    open_imported_round,
    open_test_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
)
from tests.webapp.conftest import signed_in
from tests.webapp.test_annotate import judgement_fields
from tests.webapp.test_rounds import round_fields
from webapp.forms import rounds as round_forms
from workers import redis_keys

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}
TWO_TURNS = prompt_line("key-of-a", "How do I boil an egg?", "And how long?")


def upload(client: Client, source: str, content: bytes | None, **fields: str) -> Any:
    policies = [make_policy_version().pk, make_policy_version().pk]
    data: dict[str, Any] = round_fields(make_guidelines(), *policies) | {"source": source} | fields
    if content is not None:
        data["items_file"] = SimpleUploadedFile("week.jsonl", content)
    return client.post(reverse("new-round"), data)


def start(client: Client, round_: Round) -> Dialogue:
    response = client.post(reverse("start", args=[round_.pk]), {"client_key": str(uuid.uuid4())})
    pk = int(response.headers["Location"].rstrip("/").rpartition("/")[2])
    return Dialogue.objects.get(pk=pk)


def page_of(client: Client, dialogue: Dialogue) -> str:
    return client.get(reverse("dialogue", args=[dialogue.pk])).content.decode()


def submit(client: Client, comparison: Comparison, side: Side = Side.LEFT) -> str:
    """Judge as the page does, and return what it shows next."""
    address = reverse("judge", args=[comparison.pk])
    response = client.post(address, judgement_fields(comparison, side), headers=HTMX)
    assert response.status_code == 200
    return response.content.decode()


# The lead


def test_a_round_of_imported_prompts_is_opened_by_an_upload(lead_client: Client) -> None:
    content = lines_of([TWO_TURNS, prompt_line("b")])
    response = upload(lead_client, "prompts", content, target_comparisons="", min_turns="9")
    round_ = Round.objects.get()
    assert response.headers["Location"] == reverse("round", args=[round_.pk])
    assert (round_.source, round_.target_comparisons, round_.variants.count()) == ("prompts", 3, 2)
    page = lead_client.get(reverse("round", args=[round_.pk])).content.decode()
    for words in ("Imported prompts", "0 done, 2 free", "of 3 judged"):
        assert words in page


def test_a_round_of_imported_pairs_asks_no_policy(lead_client: Client) -> None:
    upload(lead_client, "pairs", lines_of([pair_line("a"), pair_line("b")]))
    round_ = Round.objects.get()
    assert (round_.source, round_.max_turns, round_.target_comparisons) == ("pairs", 1, 2)
    assert not round_.variants.exists()
    assert lead_client.get(reverse("round", args=[round_.pk])).status_code == 200


def test_the_page_of_a_round_of_pairs_tells_how_often_each_source_was_chosen(
    lead_client: Client,
) -> None:
    round_ = open_imported_round(*(pair_line(n, sources=("one", "two")) for n in range(3)))
    for _ in range(3):
        dialogue = start_test_dialogue(make_annotator(), round_)
        comparison = Comparison.objects.live().get(dialogue=dialogue)
        sample = comparison.samples.get(policy__name="import/one")
        judge(comparison, side=Side(sample.side))
    response = lead_client.get(reverse("round", args=[round_.pk]))
    rows = [(row.policy.name, row.share) for row in response.context["page"].variants]
    assert rows == [("import/one", 1.0), ("import/two", 0.0)]
    assert "Who wrote the pairs" in response.content.decode()


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("prompts", None, "Choose the file that holds them."),
        ("prompts", b"", "The submitted file is empty."),
        ("prompts", b"\n", "the file holds nothing to ask: it is empty"),
        ("prompts", lines_of([TWO_TURNS, {"prompt_id": "b"}]), "week.jsonl line 2: is missing"),
        ("pairs", lines_of([TWO_TURNS]), "Next_turns: week.jsonl line 1: is not one of"),
        (
            "prompts",
            lines_of([prompt_line("a", *"12345")]),
            "Next_turns: week.jsonl line 1: 5 turns are more than the 4 of the round",
        ),
        ("prompts", b"<script>{", "week.jsonl line 1 is no JSON"),
        ("told", None, "Select a valid choice"),
    ],
)
def test_a_bad_file_is_explained_and_nothing_is_stored(
    lead_client: Client, source: str, content: bytes | None, message: str
) -> None:
    response = upload(lead_client, source, content)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Round.objects.exists()
    assert not ImportedItem.objects.exists()


def test_a_file_too_large_for_a_form_is_named_with_the_bound(
    lead_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_forms, "MAX_UPLOAD_MB", 0)
    page = upload(lead_client, "prompts", lines_of([TWO_TURNS])).content.decode()
    assert "bytes are more than 0 MB" in page
    assert "add the rest on the page of the round" in page


def test_a_written_round_needs_a_target(lead_client: Client) -> None:
    response = upload(lead_client, "written", None, target_comparisons="")
    assert "Say how many comparisons" in response.content.decode()
    assert not Round.objects.exists()


# More of them, by command


def test_a_large_file_is_added_by_command_all_or_nothing(tmp_path: Path) -> None:
    lead = make_lead()
    round_ = open_imported_round(TWO_TURNS, lead=lead)
    path = tmp_path / "more.jsonl.gz"
    rows = [prompt_line(number, "1", "2") for number in range(1200)]
    path.write_bytes(gzip.compress(lines_of(rows)))
    output = StringIO()

    call_command("add_items", round_.name, path, stdout=output)

    assert "1200 items, 2400 turns added" in output.getvalue()
    round_.refresh_from_db()
    assert (round_.target_comparisons, round_.items.count()) == (2402, 1201)
    path.write_bytes(gzip.compress(lines_of([prompt_line("new"), *rows[:700]])))
    with pytest.raises(CommandError, match=r"prompt_id: .* line 2: '0' is in the round already"):
        call_command("add_items", round_.name, path)
    assert round_.items.count() == 1201


class Terminal(StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_shows_how_far_the_file_is_read(tmp_path: Path) -> None:
    round_ = open_imported_round(TWO_TURNS, lead=make_lead())
    path = tmp_path / "more.jsonl"
    path.write_bytes(lines_of([prompt_line(number) for number in range(700)]))
    output = Terminal()
    call_command("add_items", round_.name, path, stdout=output)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    *_, last, added, end = re.split(r"[\r\n]+", plain)
    assert last.startswith("more.jsonl ")
    assert "100% 700 lines" in last
    assert (added, end) == (f"{round_.name}: 700 items, 700 turns added", "")


def test_without_a_terminal_there_is_no_bar(tmp_path: Path) -> None:
    round_ = open_imported_round(TWO_TURNS, lead=make_lead())
    path = tmp_path / "more.jsonl"
    path.write_bytes(lines_of([prompt_line("b")]))
    output = StringIO()
    call_command("add_items", round_.name, path, stdout=output)
    assert output.getvalue() == f"{round_.name}: 1 items, 1 turns added\n"


def test_the_command_names_what_it_does_not_find(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--by: there is no such lead"):
        call_command("add_items", "x", "y")
    make_lead()
    with pytest.raises(CommandError, match="there is no round 'x'"):
        call_command("add_items", "x", "y")
    with pytest.raises(CommandError, match="are written in it"):
        call_command("add_items", open_test_round().name, "y")
    name = open_imported_round(TWO_TURNS).name
    with pytest.raises(CommandError, match=r"file: .*No such file"):
        call_command("add_items", name, tmp_path / "y")
    (tmp_path / "y.gz").write_bytes(b"not packed")
    with pytest.raises(CommandError, match="file: Not a gzipped file"):
        call_command("add_items", name, tmp_path / "y.gz")


# The annotator


def test_the_prompt_stands_where_others_write_and_the_sampler_is_nudged(
    annotator_client: Client,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    round_ = open_imported_round(TWO_TURNS)
    redis_keys.client().delete(redis_keys.SAMPLER_NUDGED)
    with django_capture_on_commit_callbacks(execute=True):
        dialogue = start(annotator_client, round_)
    assert redis_keys.client().exists(redis_keys.SAMPLER_NUDGED)

    page = page_of(annotator_client, dialogue)

    assert 'data-kind="wait"' in page
    assert "How do I boil an egg?" in page
    assert "turn 1 of 2" in page
    assert "<textarea" not in page
    assert ">Asked<" in page
    assert ">You<" not in page


def test_after_a_judgement_the_next_turn_is_there_and_after_the_last_the_next_item(
    annotator_client: Client,
) -> None:
    round_ = open_imported_round(TWO_TURNS, prompt_line("b", "What is rice?"))
    dialogue = start(annotator_client, round_)
    draw_samples()
    draw_ahead()

    page = submit(annotator_client, Comparison.objects.live().get(), Side.RIGHT)

    assert 'data-kind="judge"' in page
    assert "And how long?" in page
    draw_ahead()
    page = submit(annotator_client, Comparison.objects.live().get(dialogue=dialogue))
    assert 'data-kind="judge"' in page
    assert "What is rice?" in page
    page = submit(annotator_client, Comparison.objects.live().get())
    assert Judgement.objects.count() == 3


def test_a_quick_pair_is_held_back_like_any_other(
    annotator_client: Client, settings: Settings
) -> None:
    dialogue = start(annotator_client, open_imported_round(TWO_TURNS))
    draw_samples()
    draw_ahead()
    settings.RESPONSE_FLOOR_MS = 60_000
    page = submit(annotator_client, Comparison.objects.live().get())
    assert 'data-kind="wait"' in page
    assert "I do not know." not in page.partition("And how long?")[2]
    assert 'data-kind="wait"' in page_of(annotator_client, dialogue)


def test_passing_on_shows_the_next_item(annotator_client: Client) -> None:
    round_ = open_imported_round(pair_line("a"), pair_line("b"))
    start(annotator_client, round_)
    pair = Comparison.objects.live().get()
    address = reverse("skip", args=[pair.pk])
    page = annotator_client.post(address, {"reason": "other"}, headers=HTMX).content.decode()
    assert "question b" in page
    assert 'data-kind="judge"' in page


def test_the_page_tells_neither_source_nor_policy_nor_what_was_drawn_ahead(
    annotator_client: Client,
) -> None:
    line = pair_line("a", sources=("zorgmodel", "blipmodel")) | {"prompt_id": "key-7"}
    pairs = open_imported_round(line)
    prompts = open_imported_round(
        TWO_TURNS, policies=[make_policy_version("zorg-1"), make_policy_version("zorg-2")]
    )
    for round_ in (pairs, prompts):
        dialogue = start(annotator_client, round_)
        draw_samples()
        draw_ahead(("Never to be seen.", "Nor is this one."))
        page = page_of(annotator_client, dialogue)
        assert 'data-kind="judge"' in page
        for secret in ("zorg", "blip", "import/", "key-7", "key-of-a", "Never to be seen"):
            assert secret not in page
    guess = Comparison.objects.filter(is_ahead=True).first()
    assert guess is not None
    for name in ("judge", "skip", "flag", "beat"):
        status = annotator_client.post(reverse(name, args=[guess.pk])).status_code
        assert status == 404, name


def test_nobody_else_sees_the_dialogue_of_an_item(annotator_client: Client) -> None:
    dialogue = start(annotator_client, open_imported_round(TWO_TURNS))
    stranger = signed_in(make_annotator())
    assert stranger.get(reverse("dialogue", args=[dialogue.pk])).status_code == 404


def test_an_item_that_came_to_nothing_is_explained(annotator_client: Client) -> None:
    dialogue = start(annotator_client, open_imported_round(TWO_TURNS))
    for _ in range(3):
        draw_samples(("Same.", "Same."))
    page = page_of(annotator_client, dialogue)
    assert "No pair came about" in page
    assert "set aside" in page


def test_when_nothing_is_left_the_page_says_so(annotator_client: Client, annotator: User) -> None:
    round_ = open_imported_round(pair_line("a"), pair_line("b"))
    start(annotator_client, round_)
    judge(Comparison.objects.live().get())
    start(annotator_client, round_)
    pair = Comparison.objects.live().get()
    annotator_client.post(reverse("skip", args=[pair.pk]), {"reason": "other"})
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "Nothing is left for you" in page
    response = annotator_client.post(reverse("start", args=[round_.pk]), follow=True)
    assert "Nothing is left for you" in response.content.decode()
