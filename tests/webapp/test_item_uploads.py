"""More items for an imported round: the lead's pages, from the file to the round."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotation.models import ItemUpload, Round
from tests.factories import lines_of, open_imported_round, open_test_round, pair_line, prompt_line
from tests.workers.live import forget_messages, wait_until
from webapp import uploads as bounds
from workers import redis_keys, schedule
from workers.alive import AliveThread, workers_alive
from workers.uploads import work_on_upload

pytestmark = pytest.mark.django_db
TWO_TURNS = prompt_line("a", "How do I boil an egg?", "And how long?")


def send(client: Client, round_: Round, content: bytes, name: str = "more.jsonl") -> Any:
    file = SimpleUploadedFile(name, content)
    return client.post(reverse("items", args=[round_.pk]), {"items_file": file})


def page_of(client: Client, upload: ItemUpload, **headers: str) -> str:
    address = reverse("item-upload", args=[upload.pk])
    return client.get(address, headers=headers).content.decode()


def test_a_file_is_checked_shown_and_added(lead_client: Client) -> None:
    round_ = open_imported_round(TWO_TURNS)
    assert "Add items" in lead_client.get(reverse("round", args=[round_.pk])).content.decode()
    response = send(lead_client, round_, lines_of([TWO_TURNS, prompt_line("b", "1", "2")]))
    upload = ItemUpload.objects.get()
    assert response.headers["Location"] == reverse("item-upload", args=[upload.pk])

    page = page_of(lead_client, upload)
    assert "Checking the file" in page
    assert 'hx-trigger="every 1s"' in page
    work_on_upload(upload.pk)
    page = page_of(lead_client, upload, HX_Request="true")
    assert "<html" not in page
    assert 'hx-trigger="every 1s"' not in page
    for words in ("<dt>New</dt><dd>1</dd>", "2 turns", "already</dt><dd>1</dd>", "Add 1 item<"):
        assert words in page
    assert round_.items.count() == 1

    page = lead_client.post(reverse("accept-items", args=[upload.pk]), follow=True).content.decode()
    assert "Adding 1 item<" in page
    work_on_upload(upload.pk)
    assert "1 item with 2 turns to" in page_of(lead_client, upload)
    assert round_.items.count() == 2
    listed = lead_client.get(reverse("items", args=[round_.pk])).content.decode()
    assert "Uploaded so far" in listed
    assert "more.jsonl" in listed


def test_the_page_says_how_far_the_file_is_read_and_when_nobody_reads(lead_client: Client) -> None:
    round_ = open_imported_round(TWO_TURNS)
    send(lead_client, round_, lines_of([prompt_line("b")]))
    upload = ItemUpload.objects.get()
    assert "No worker serves the cpu queue" in page_of(lead_client, upload)
    alive = AliveThread(["cpu"])
    alive.start()
    wait_until(lambda: workers_alive()["cpu"])
    redis_keys.client().set(redis_keys.upload_key(upload.pk), 0.25, ex=60)
    try:
        page = page_of(lead_client, upload)
    finally:
        alive.finish()
    assert "No worker" not in page
    assert "25% read" in page


def test_a_wrong_line_is_named_on_the_page(lead_client: Client) -> None:
    round_ = open_imported_round(pair_line("a"))
    send(lead_client, round_, lines_of([pair_line("b"), TWO_TURNS]))
    upload = ItemUpload.objects.get()
    work_on_upload(upload.pk)
    page = page_of(lead_client, upload)
    assert "Nothing of this file was added" in page
    assert "Next_turns: more.jsonl line 2: is not one of" in page


def test_an_error_nobody_foresaw_is_shown_and_not_met_again(lead_client: Client) -> None:
    send(lead_client, open_imported_round(TWO_TURNS), lines_of([prompt_line("b")]))
    upload = ItemUpload.objects.get()
    Round.objects.update(source="written")  # no service does
    work_on_upload(upload.pk)
    page = page_of(lead_client, upload)
    assert "ValueError: " in page
    assert "is not a valid ItemKind" in page
    assert schedule.wake_uploads() == []


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "more.jsonl", "The submitted file is empty."),
        (b"{}", "more.csv", "does not end in one of .jsonl, .json, .txt, .gz, .parquet."),
    ],
)
def test_a_file_that_cannot_be_one_is_refused_at_once(
    lead_client: Client, content: bytes, name: str, message: str
) -> None:
    response = send(lead_client, open_imported_round(TWO_TURNS), content, name)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not ItemUpload.objects.exists()


def test_a_request_that_is_too_large_is_refused_before_it_is_read(
    lead_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_REQUEST_BYTES", 1000)
    response = send(lead_client, open_imported_round(TWO_TURNS), b"x" * 2000)
    assert response.status_code == 413
    assert "This is more than a form takes" in response.content.decode()


def test_add_nothing_drops_the_file(lead_client: Client) -> None:
    round_ = open_imported_round(TWO_TURNS)
    send(lead_client, round_, lines_of([prompt_line("b")]))
    upload = ItemUpload.objects.get()
    drop = reverse("drop-items", args=[upload.pk])
    assert "only checked allows this" in lead_client.post(drop, follow=True).content.decode()
    work_on_upload(upload.pk)
    assert (
        "Nothing of more.jsonl was added." in lead_client.post(drop, follow=True).content.decode()
    )
    assert "Not added." in page_of(lead_client, upload)
    response = lead_client.post(reverse("accept-items", args=[upload.pk]), follow=True)
    assert "This upload is dropped" in response.content.decode()


def test_a_closed_or_written_round_shows_no_form(lead_client: Client) -> None:
    round_ = open_imported_round(TWO_TURNS)
    lead_client.post(reverse("close-round", args=[round_.pk]))
    for other in (round_, open_test_round()):
        page = lead_client.get(reverse("items", args=[other.pk])).content.decode()
        assert "takes no" in page
        assert 'type="file"' not in page
        assert send(lead_client, other, lines_of([TWO_TURNS])).status_code == 422


def test_beat_reminds_of_uploads_that_no_message_tells_of(lead_client: Client) -> None:
    send(lead_client, open_imported_round(TWO_TURNS), lines_of([prompt_line("b")]))
    upload = ItemUpload.objects.get()
    forget_messages()
    assert schedule.wake_uploads() == [upload.pk]
    work_on_upload(upload.pk)
    assert schedule.wake_uploads() == []
