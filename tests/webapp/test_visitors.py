"""Simulated annotators drive the real pages over HTTP, forms, sessions and CSRF included."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from annotation.models import (
    Comparison,
    Consent,
    GuidelinesConfirmation,
    Judgement,
    Round,
    User,
)
from annotation.selectors import counter_drift
from annotation.services import (
    NewUser,
    Overlap,
    claim_comparisons_for_sampling,
    confirm_guidelines,
    create_users,
    publish_consent_document,
    publish_guidelines,
)
from records.preferences import Axis
from simulation.browser import Browser, BrowserError
from simulation.visitors import Account, visit
from tests.factories import PASSWORD, answer_job, make_lead, open_test_round
from workers.alive import AliveThread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sampler() -> Iterator[None]:
    """Answer every prompt a moment after it was written, as a worker would."""
    stop = threading.Event()

    def answer() -> None:
        number = 0
        while not stop.wait(0.05):
            for job in claim_comparisons_for_sampling(limit=100, worker="test"):
                number += 1
                answer_job(job, (f"The answer is {number}.", f"I do not know {number}."))
        connection.close()

    alive = AliveThread(["sampling"])
    alive.start()
    thread = threading.Thread(target=answer)
    thread.start()
    yield
    stop.set()
    thread.join()
    alive.finish()


def make_accounts(number: int) -> list[Account]:
    accounts = [Account(f"visitor-{n}", PASSWORD, "careful") for n in range(number)]
    create_users(users=[NewUser(a.username, password=a.password) for a in accounts])
    return accounts


@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.usefixtures("sampler")
def test_visitors_fill_a_round_and_a_form_sent_twice_counts_once(
    live_server: LiveServer, axis: Axis
) -> None:
    round_ = open_test_round(axis=axis, target_comparisons=8, max_turns=2)
    report = visit(
        live_server.url,
        make_accounts(3),
        num_judgements=8,
        repeat_share=0.5,
        patience_seconds=20,
    )
    round_.refresh_from_db()
    assert report.num_judged == round_.num_judged == Judgement.objects.count() == 8
    assert report.num_repeated > 0
    assert counter_drift(round_) == {}
    assert Judgement.objects.values("annotator").distinct().count() == 3
    assert Comparison.objects.filter(turn=1).exists()
    assert all(bool(j.safety_bin) == (axis is Axis.SAFETY) for j in Judgement.objects.all())
    assert all(10 <= j.active_seconds < 90 for j in Judgement.objects.all())
    assert set(report.statuses) <= {200, 404, 409, 422}
    assert 0 < report.quantile(0.5) <= report.quantile(0.95)


@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.usefixtures("sampler")
def test_visitors_consent_confirm_what_is_new_and_judge_pairs_of_each_other(
    live_server: LiveServer, axis: Axis
) -> None:
    lead = make_lead()
    publish_consent_document(version="1", text="We store what you judge.", created_by=lead)
    overlap = Overlap(overlap_share=1.0, judgements_per_comparison=2)
    round_ = open_test_round(axis=axis, target_comparisons=4, max_turns=1, overlap=overlap)
    accounts = make_accounts(2)
    old = publish_guidelines(axis=axis, version="older", text="Old.", created_by=lead)
    for annotator in User.objects.filter(username__startswith="visitor-"):
        confirm_guidelines(annotator=annotator, guidelines=old)
    report = visit(live_server.url, accounts, num_judgements=8, patience_seconds=20)
    round_.refresh_from_db()
    assert report.num_judged == Judgement.objects.count() == 8
    assert (round_.num_judged, round_.num_further_judged) == (4, 4)
    assert Consent.objects.count() == 2
    confirmed = GuidelinesConfirmation.objects.filter(guidelines=round_.guidelines)
    assert confirmed.count() == 2
    assert counter_drift(round_) == {}


def test_with_nothing_to_do_they_leave(live_server: LiveServer) -> None:
    report = visit(live_server.url, make_accounts(1), num_judgements=5, patience_seconds=0.3)
    assert (report.num_judged, report.num_written) == (0, 0)
    assert set(report.statuses) == {200}


def test_a_wrong_password_is_said(live_server: LiveServer) -> None:
    make_accounts(1)
    with (
        closing(Browser(live_server.url)) as browser,
        pytest.raises(BrowserError, match="visitor-0 cannot sign in"),
    ):
        browser.sign_in("visitor-0", "wrong")
    assert Round.objects.count() == 0


@pytest.mark.usefixtures("sampler")
def test_the_command_makes_its_accounts_and_says_what_they_did(
    live_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    open_test_round(target_comparisons=3, max_turns=1)
    call_command("simulate_annotators", http=live_server.url, create=2, judgements=3)
    assert "3 judged, 3 written, 0 forms sent twice" in capsys.readouterr().out
    assert User.objects.exclude(persona="").count() == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ana\n", "line 1: name, password"),
        ("ana,x\nben,y,lazy\n", "line 2: persona 'lazy' is not of careful"),
    ],
)
def test_a_wrong_file_of_accounts_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(text)
    with pytest.raises(CommandError, match=message):
        call_command("simulate_annotators", http="http://127.0.0.1:1", accounts=path)


def test_a_site_that_is_not_there_is_said(settings: Settings) -> None:
    make_accounts(1)
    with pytest.raises(CommandError, match="refused"):
        call_command("simulate_annotators", http="http://127.0.0.1:1", create=1)
