"""A crowd of simulated annotators fills a round through the services, with a real sampler."""

import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from annotation.models import Comparison, Dialogue, Judgement, Round, User
from annotation.selectors import counter_drift
from annotation.services import NO_OVERLAP, NewVariant, Overlap, close_round, open_round
from records.preferences import Axis
from registry.services import publish_artifact, register_policy
from tests.factories import (
    make_annotator,
    make_guidelines,
    make_lead,
    open_imported_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
    write_test_prompt,
)
from tests.models import write_tiny_policy
from tests.workers.live import forget_messages, live_worker, wait_until
from workers import dispatch, simulated
from workers.simulated import CrowdStalledError, fill_round, run_crowd, simulated_annotators

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def _sampler(django_db_setup: None) -> Iterator[None]:
    """One sampler, and one worker for crowds, for all tests of this file."""
    forget_messages()
    with live_worker("sampling,cpu", num_processes=2):
        yield


@cache
def _weights(seed: int) -> Path:
    return write_tiny_policy(Path(tempfile.mkdtemp()) / "policy", seed=seed)


def open_small_round(
    axis: Axis = Axis.HELPFULNESS,
    *,
    target: int = 30,
    max_turns: int = 2,
    overlap: Overlap = NO_OVERLAP,
) -> Round:
    lead = make_lead()
    policies = [
        register_policy(
            name=f"policy {seed}", artifact=publish_artifact(path=_weights(seed), kind="policy")
        )
        for seed in (1, 2)
    ]
    return open_round(
        name=f"{axis} round",
        axis=axis,
        guidelines=make_guidelines(axis, lead=lead),
        variants=[NewVariant(policy, 0.7, 1.2, max_new_tokens=6) for policy in policies],
        target_comparisons=target,
        max_turns=max_turns,
        overlap=overlap,
        opened_by=lead,
    )


def test_a_crowd_without_a_sampler_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # First in this file: the sampler of the later tests stays until the last.
    monkeypatch.setattr(simulated, "PATIENCE_SECONDS", 0.2)
    round_ = open_small_round()
    with pytest.raises(CrowdStalledError, match=r"2 comparisons wait .* -Q sampling"):
        run_crowd(round_, simulated_annotators(2))


@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.usefixtures("_sampler")
def test_a_crowd_meets_the_target_exactly(axis: Axis) -> None:
    round_ = open_small_round(axis)
    seen: list[tuple[int, int]] = []
    report = run_crowd(
        round_, simulated_annotators(8), on_progress=lambda done, all_: seen.append((done, all_))
    )
    round_.refresh_from_db()
    assert report.num_judged == round_.num_judged == 30
    assert counter_drift(round_) == {}
    assert seen[-1] == (30, 30)
    judgements = Judgement.objects.filter(comparison__round=round_)
    assert {bool(item.safety_bin) for item in judgements} == {axis is Axis.SAFETY}
    assert judgements.values("annotator").distinct().count() == 8
    assert not Comparison.objects.live().filter(round=round_).exists()


@pytest.mark.parametrize("line", [prompt_line, pair_line])
@pytest.mark.usefixtures("_sampler")
def test_a_crowd_judges_what_was_imported(line: Callable[..., dict[str, Any]]) -> None:
    written = open_small_round(target=1)
    policies = [variant.policy for variant in written.variants.all()]
    texts = ("how are you", "tell me more") if line is prompt_line else ()
    rows = [line(number, *texts) for number in range(6)]
    round_ = open_imported_round(*rows, policies=policies if texts else (), max_new_tokens=6)
    report = run_crowd(round_, simulated_annotators(4))
    round_.refresh_from_db()
    # Policies without training may say marks of the chat format: their dialogues are set aside.
    num_failed = round_.items.filter(state="failed").count()
    assert round_.items.filter(state="finished").count() == 6 - num_failed >= 4
    assert report.num_failed == num_failed
    assert report.num_judged == round_.num_judged >= round_.target_comparisons - 2 * num_failed
    assert counter_drift(round_) == {}
    assert not Comparison.objects.filter(round=round_, state__in=Comparison.LIVE_STATES).exists()


@pytest.mark.usefixtures("_sampler")
def test_a_crowd_judges_pairs_of_each_other_until_none_is_left() -> None:
    overlap = Overlap(overlap_share=1.0, judgements_per_comparison=3, repeat_share=0.2)
    other = open_small_round(Axis.SAFETY, target=1, overlap=overlap)
    round_ = open_small_round(target=10, overlap=overlap)
    run_crowd(other, simulated_annotators(1))
    report = run_crowd(round_, simulated_annotators(4))
    round_.refresh_from_db()
    assert (round_.num_judged, round_.num_further, round_.num_further_judged) == (10, 20, 20)
    judgements = Judgement.objects.filter(comparison__round=round_)
    assert report.num_judged + report.num_further == judgements.count() >= 30
    kinds = Counter(judgements.values_list("kind", flat=True))
    assert (kinds["author"], kinds["overlap"]) == (10, 20)
    assert set(kinds) <= {"author", "overlap", "repeat"}
    assert counter_drift(round_) == {}
    assert Judgement.objects.filter(comparison__round=other).count() == 1  # nobody strayed


@pytest.mark.usefixtures("_sampler")
def test_dialogues_go_on_with_the_chosen_response_up_to_the_rounds_turns() -> None:
    round_ = open_small_round(max_turns=3)
    run_crowd(round_, simulated_annotators(4))
    turns = Counter(Dialogue.objects.filter(round=round_).values_list("num_turns", flat=True))
    assert set(turns) <= {0, 1, 2, 3}
    assert turns[3] >= 5  # 30 comparisons of four people: most dialogues were ended by their length


@pytest.mark.usefixtures("_sampler")
def test_a_crowd_stops_after_the_number_asked_for_and_a_later_one_goes_on_with_other_prompts() -> (
    None
):
    round_ = open_small_round(max_turns=1)
    people = simulated_annotators(4)
    assert run_crowd(round_, people, num_comparisons=10).num_judged == 10
    assert run_crowd(round_, people).num_judged == 20
    texts = Counter(Comparison.objects.filter(round=round_).values_list("prompt_text", flat=True))
    assert texts.most_common(1)[0][1] <= 3  # small talk repeats itself; a stream begun anew, more


@pytest.mark.usefixtures("_sampler")
def test_the_queue_fills_a_round_by_itself() -> None:
    round_ = open_small_round()
    dispatch.request_simulated_crowd(round_.pk, num_annotators=6)
    wait_until(lambda: Round.objects.get(pk=round_.pk).num_judged == 30)


@pytest.mark.usefixtures("_sampler")
def test_a_crowd_leaves_the_slots_of_others_alone() -> None:
    round_ = open_small_round(target=10)
    person = make_annotator()
    write_test_prompt(person, start_test_dialogue(person, round_))
    assert run_crowd(round_, simulated_annotators(4)).num_judged == 9


@pytest.mark.usefixtures("_sampler")
def test_what_a_killed_crowd_left_open_is_closed_by_the_next() -> None:
    round_ = open_small_round(target=6)
    (user,) = simulated_annotators(1)
    left = write_test_prompt(user, start_test_dialogue(user, round_))
    assert run_crowd(round_, [user]).num_judged == 6
    left.refresh_from_db()
    assert left.state == Comparison.State.SKIPPED


def test_a_closed_round_is_left_at_once() -> None:
    round_ = open_small_round()
    close_round(round_=round_, closed_by=round_.opened_by)
    assert run_crowd(round_, simulated_annotators(2)).num_judged == 0


def test_two_deliveries_of_one_crowd_work_once() -> None:
    round_ = open_small_round()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [simulated._CROWD_LOCK, round_.pk])
        reports: list[object] = ["never ran"]

        def deliver() -> None:
            reports[0] = fill_round(round_.pk, num_annotators=2, seed=0)
            connection.close()

        thread = threading.Thread(target=deliver)
        thread.start()
        thread.join(timeout=20)
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [simulated._CROWD_LOCK, round_.pk])
    assert reports == [None]
    assert not Comparison.objects.filter(round=round_).exists()


def test_accounts_are_made_once_in_the_proportions_asked_for() -> None:
    first = simulated_annotators(10, mix={"careful": 3, "random": 1})
    assert Counter(user.persona for user in first) in (
        {"careful": 7, "random": 3},
        {"careful": 8, "random": 2},
    )
    again = simulated_annotators(12, mix={"careful": 3, "random": 1})
    assert {user.pk for user in first} < {user.pk for user in again}
    assert User.objects.exclude(persona="").count() == 12
    assert not first[0].has_usable_password()


def test_an_unknown_persona_is_named() -> None:
    with pytest.raises(ValueError, match=r"personas \['lazy'\] are not among"):
        simulated_annotators(2, mix={"lazy": 1.0})
