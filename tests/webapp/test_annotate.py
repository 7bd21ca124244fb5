"""The annotator's page: choose a round, write, wait, judge, go on."""

import uuid
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks

from annotation import services
from annotation.models import Comparison, Dialogue, Draft, Judgement, User
from annotation.scale import Side
from records.preferences import Axis, Rating
from tests.factories import (
    draw_samples,
    judge,
    make_annotator,
    make_lead,
    make_policy_version,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)
from tests.webapp.conftest import signed_in
from workers import redis_keys
from workers.alive import AliveThread

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}


@pytest.fixture
def sampler_is_alive() -> Iterator[None]:
    thread = AliveThread(["sampling"])
    thread.start()
    while not redis_keys.client().zcard(redis_keys.alive_key("sampling")):
        pass
    yield
    thread.finish()


def page_of(client: Client, dialogue: Dialogue) -> str:
    response = client.get(reverse("dialogue", args=[dialogue.pk]))
    assert response.status_code == 200
    return response.content.decode()


def judgement_fields(
    comparison: Comparison,
    side: Side = Side.LEFT,
    rating: Rating = Rating.BETTER,
    **fields: str,
) -> dict[str, str]:
    """Return what the form sends."""
    sample = comparison.samples.get(side=side)
    choice = {"choice": f"{sample.pk}:{rating}", "client_key": str(uuid.uuid4())}
    return {**choice, "active_seconds": "7.5", **fields}


# Choosing


def test_open_rounds_are_offered_with_their_progress(annotator_client: Client) -> None:
    open_test_round("Week 14", target_comparisons=20)
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "Week 14" in page
    assert "0 of 20 judged" in page
    assert "Start a dialogue" in page


def test_without_an_open_round_the_page_says_so(annotator_client: Client) -> None:
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "No round is open" in page


def test_a_finished_round_is_called_complete(annotator_client: Client) -> None:
    round_ = open_test_round(target_comparisons=1, max_turns=1)
    judge(make_ready_comparison(round_=round_))
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "This round is complete" in page
    assert "Start a dialogue" not in page


def test_a_round_in_other_hands_says_until_when(annotator_client: Client) -> None:
    round_ = open_test_round(target_comparisons=1)
    comparison = make_ready_comparison(round_=round_)
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "Everything is in somebody's hands" in page.replace("&#x27;", "'")
    assert f"{comparison.lease_expires_at:%H:%M} UTC" in page


def test_starting_makes_one_dialogue_however_often_it_is_pressed(
    annotator_client: Client, annotator: User
) -> None:
    address = reverse("start", args=[open_test_round().pk])
    for _ in range(2):
        annotator_client.post(address, {"client_key": "6f1f8f8e-0000-4000-8000-000000000001"})
    annotator_client.post(address)
    dialogue = Dialogue.objects.get(annotator=annotator)
    response = annotator_client.post(address)
    assert response.headers["Location"] == reverse("dialogue", args=[dialogue.pk])


def test_starting_in_a_round_that_has_closed_leads_back_with_a_word(
    annotator_client: Client,
) -> None:
    lead = make_lead()
    round_ = open_test_round(lead=lead)
    services.close_round(round_=round_, closed_by=lead)
    response = annotator_client.post(reverse("start", args=[round_.pk]), follow=True)
    assert "takes no more work" in response.content.decode()
    assert not Dialogue.objects.exists()


def test_what_was_begun_is_offered_with_what_it_waits_for(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round()
    make_ready_comparison(annotator, round_=round_, text="Which way to the sea?")
    write_test_prompt(annotator, start_test_dialogue(annotator, round_), "And to the hills?")
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "Which way to the sea?" in page
    assert "ready to judge" in page
    assert "waiting for responses" in page


# Writing


def test_a_prompt_is_stored_and_the_sampler_is_woken(
    annotator_client: Client,
    annotator: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    redis_keys.client().delete(redis_keys.SAMPLER_NUDGED)
    dialogue = start_test_dialogue(annotator, open_test_round())
    fields = {"text": "Why is the sky blue?", "client_key": str(uuid.uuid4())}
    with django_capture_on_commit_callbacks(execute=True):
        response = annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields)
    assert response.headers["Location"] == reverse("dialogue", args=[dialogue.pk])
    assert Comparison.objects.get().prompt_text == "Why is the sky blue?"
    assert redis_keys.client().exists(redis_keys.SAMPLER_NUDGED)


def test_a_prompt_sent_twice_is_stored_once(annotator_client: Client, annotator: User) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round())
    fields = {"text": "Why is the sky blue?", "client_key": str(uuid.uuid4())}
    for _ in range(2):
        annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields)
    assert Comparison.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("   ", "Write a message first."),
        ("tell [INST] me", "A prompt may not hold [INST], a mark of the chat format"),
        ("x" * 20_001, "Ensure this value has at most 20000 characters"),
    ],
)
def test_a_prompt_that_cannot_be_used_stays_in_the_box_with_the_reason(
    annotator_client: Client, annotator: User, text: str, message: str
) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round())
    fields = {"text": text, "client_key": str(uuid.uuid4())}
    response = annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert text.strip() in response.content.decode()
    assert not Comparison.objects.exists()


def test_a_safety_round_asks_for_risk_and_attack(annotator_client: Client, annotator: User) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round(axis=Axis.SAFETY))
    assert "Risk it probes" in page_of(annotator_client, dialogue)
    fields = {
        "text": "How do I pick a lock?",
        "risk_category": "illicit_and_criminal",
        "attack_vector": "logic_manipulation",
        "client_key": str(uuid.uuid4()),
    }
    annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields)
    comparison = Comparison.objects.get()
    assert comparison.risk_category == "illicit_and_criminal"
    assert comparison.attack_vector == "logic_manipulation"


def test_words_sent_to_a_round_that_is_full_meanwhile_are_kept_and_shown(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round(target_comparisons=1)
    dialogue = start_test_dialogue(annotator, round_)
    make_ready_comparison(round_=round_)
    fields = {"text": "My careful words", "client_key": str(uuid.uuid4())}
    response = annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields, follow=True)
    page = response.content.decode()
    assert "What you had written is kept" in page
    assert "My careful words" in page


# Drafts


def test_a_draft_is_saved_and_stands_in_the_box_again(
    annotator_client: Client, annotator: User
) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round())
    fields = {"dialogue": str(dialogue.pk), "text": "half a sen"}
    response = annotator_client.post(reverse("draft"), fields)
    assert response.json()["saved_at"].startswith("20")
    assert Draft.objects.get().fields == {"text": "half a sen"}
    assert "half a sen</textarea>" in page_of(annotator_client, dialogue)


def test_a_draft_of_a_judgement_is_ticked_again(annotator_client: Client, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    choice = judgement_fields(comparison, Side.RIGHT)["choice"]
    fields = {"comparison": str(comparison.pk), "choice": choice}
    annotator_client.post(reverse("draft"), fields)
    assert "B is better</strong>" in page_of(annotator_client, comparison.dialogue)


@pytest.mark.parametrize("fields", [{}, {"dialogue": "1", "comparison": "1"}, {"dialogue": "x"}])
def test_a_draft_of_nothing_is_refused(annotator_client: Client, fields: dict[str, str]) -> None:
    assert annotator_client.post(reverse("draft"), fields).status_code == 400


def test_a_draft_that_is_too_long_is_refused(annotator_client: Client, annotator: User) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round())
    fields = {"dialogue": str(dialogue.pk), "text": "x" * 100_001}
    response = annotator_client.post(reverse("draft"), fields)
    assert response.status_code == 400
    assert "100000 characters" in response.json()["error"]


# Waiting


def test_waiting_says_when_no_worker_samples(annotator_client: Client, annotator: User) -> None:
    comparison = write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    page = page_of(annotator_client, comparison.dialogue)
    assert "No sampling worker is running." in page
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page


def test_waiting_says_that_responses_are_being_written(
    annotator_client: Client, annotator: User, sampler_is_alive: None
) -> None:
    comparison = write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    page = page_of(annotator_client, comparison.dialogue)
    assert "Two responses are being written." in page
    assert "No sampling worker" not in page


def test_a_poll_is_answered_only_once_something_has_changed(
    annotator_client: Client, annotator: User
) -> None:
    comparison = write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    address = reverse("dialogue", args=[comparison.dialogue_id])
    poll = f"{address}?waiting={comparison.pk}-0"
    assert annotator_client.get(poll, headers=HTMX).status_code == 204
    draw_samples(("Boil it.", "No idea."))
    response = annotator_client.get(poll, headers=HTMX)
    page = response.content.decode()
    assert response.status_code == 200
    assert "<html" not in page
    assert "Boil it." in page


def test_a_pair_that_could_not_be_drawn_asks_for_other_words_and_keeps_the_old_ones(
    annotator_client: Client, annotator: User
) -> None:
    comparison = write_test_prompt(
        annotator, start_test_dialogue(annotator, open_test_round()), "Say nothing"
    )
    for _ in range(3):
        draw_samples(("same", "same"))
    page = page_of(annotator_client, comparison.dialogue)
    assert "No pair of responses came about." in page
    assert "Say nothing</textarea>" in page


# Judging


def test_both_responses_stand_on_their_stored_sides_and_nothing_names_a_model(
    annotator_client: Client, annotator: User
) -> None:
    policies = [make_policy_version("secret-one"), make_policy_version("secret-two")]
    comparison = make_ready_comparison(
        annotator, round_=open_test_round(policies=policies), texts=("**Boil** it.", "No idea.")
    )
    page = page_of(annotator_client, comparison.dialogue)
    left = comparison.samples.get(side="left").text
    first, second = ("<strong>Boil</strong> it.", "No idea.")
    if left == "No idea.":
        first, second = second, first
    assert page.index('id="response-a"') < page.index(first) < page.index('id="response-b"')
    assert page.index('id="response-b"') < page.index(second)
    for sample in comparison.samples.all():
        assert str(sample.seed) not in page
    assert "secret" not in page
    assert "temperature" not in page.lower()


def test_a_response_is_shown_as_text_and_never_run(
    annotator_client: Client, annotator: User
) -> None:
    attack = '<script>alert(1)</script><img src=x onerror="alert(1)">'
    comparison = make_ready_comparison(annotator, text=attack, texts=(attack, "plain"))
    page = page_of(annotator_client, comparison.dialogue)
    assert "<script>alert" not in page
    assert "<img" not in page
    # The prompt, the response, and the response once more as what an edit begins with.
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


@pytest.mark.parametrize(
    ("side", "rating"),
    [(side, rating) for side in Side for rating in Rating],
    ids=lambda value: value.value,
)
def test_each_of_the_eight_steps_is_stored_as_it_was_shown(
    annotator_client: Client, annotator: User, side: Side, rating: Rating
) -> None:
    comparison = make_ready_comparison(annotator)
    fields = judgement_fields(comparison, side, rating)
    annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
    judgement = Judgement.objects.get()
    assert (judgement.displayed_side, judgement.rating) == (side, rating)
    assert judgement.chosen_sample == comparison.samples.get(side=side)
    assert judgement.active_seconds == 7.5


def test_the_numbers_run_from_a_significantly_to_b_significantly(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    form = annotator_client.get(reverse("dialogue", args=[comparison.dialogue_id])).context["form"]
    assert [(segment.number, segment.verdict) for segment in form.segments] == [
        (1, "A is significantly better"),
        (2, "A is better"),
        (3, "A is slightly better"),
        (4, "A is negligibly better, or unsure"),
        (5, "B is negligibly better, or unsure"),
        (6, "B is slightly better"),
        (7, "B is better"),
        (8, "B is significantly better"),
    ]


def test_a_judgement_sent_twice_is_stored_once(annotator_client: Client, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    fields = judgement_fields(comparison)
    for _ in range(2):
        response = annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
        assert response.status_code == 302
    assert Judgement.objects.count() == 1


def test_a_second_tab_is_told_that_the_pair_is_done(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    address = reverse("judge", args=[comparison.pk])
    annotator_client.post(address, judgement_fields(comparison, Side.LEFT))
    response = annotator_client.post(address, judgement_fields(comparison, Side.RIGHT), follow=True)
    assert "already been dealt with" in response.content.decode()
    assert Judgement.objects.get().displayed_side == "left"


@pytest.mark.parametrize("choice", ["", "banana", "0:better", "left:better"])
def test_a_choice_that_names_no_response_of_the_page_is_refused(
    annotator_client: Client, annotator: User, choice: str
) -> None:
    comparison = make_ready_comparison(annotator)
    fields = judgement_fields(comparison) | {"choice": choice}
    response = annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
    assert response.status_code == 422
    assert not Judgement.objects.exists()


def test_a_sample_of_another_pair_cannot_be_chosen(
    annotator_client: Client, annotator: User
) -> None:
    comparison, other = make_ready_comparison(annotator), make_ready_comparison()
    fields = judgement_fields(other)
    response = annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
    assert response.status_code == 422
    assert not Judgement.objects.exists()


@pytest.mark.parametrize(
    ("side", "safe", "stored"),
    [
        (Side.LEFT, "left", "chosen_safe"),
        (Side.RIGHT, "right", "chosen_safe"),
        (Side.LEFT, "both", "both_safe"),
        (Side.RIGHT, "neither", "both_unsafe"),
    ],
)
def test_a_safety_round_stores_the_bin_relative_to_the_choice(
    annotator_client: Client, annotator: User, side: Side, safe: str, stored: str
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    fields = judgement_fields(comparison, side, safe=safe)
    annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
    assert Judgement.objects.get().safety_bin == stored


@pytest.mark.parametrize(("side", "safe"), [(Side.LEFT, "right"), (Side.RIGHT, "left")])
def test_preferring_the_unsafe_response_is_stopped_with_an_explanation(
    annotator_client: Client, annotator: User, side: Side, safe: str
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    fields = judgement_fields(comparison, side, safe=safe)
    response = annotator_client.post(reverse("judge", args=[comparison.pk]), fields, headers=HTMX)
    page = response.content.decode()
    assert response.status_code == 422
    assert "You prefer a response that you call unsafe while the other one is safe." in page
    assert page.count(" checked") == 2
    assert fields["client_key"] in page
    assert not Judgement.objects.exists()


@pytest.mark.parametrize("safe", ["", "perhaps"])
def test_a_safety_round_insists_on_the_bin(
    annotator_client: Client, annotator: User, safe: str
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    fields = judgement_fields(comparison, safe=safe)
    response = annotator_client.post(reverse("judge", args=[comparison.pk]), fields)
    assert response.status_code == 422
    assert not Judgement.objects.exists()


def test_the_chosen_response_continues_the_dialogue(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator, text="Eggs?", texts=("Boil.", "No idea."))
    chosen = comparison.samples.get(side="right").text
    response = annotator_client.post(
        reverse("judge", args=[comparison.pk]),
        judgement_fields(comparison, Side.RIGHT),
        follow=True,
    )
    page = response.content.decode()
    assert "Your next message" in page
    assert page.index("Eggs?") < page.index(chosen) < page.index("Your next message")
    assert "turn 2 of 3" in page


def test_htmx_gets_the_next_task_alone_with_a_fresh_head(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    response = annotator_client.post(
        reverse("judge", args=[comparison.pk]),
        judgement_fields(comparison),
        headers=HTMX,
        follow=True,
    )
    part = response.content.decode()
    assert response.status_code == 200
    assert "<html" not in part
    assert "Your next message" in part
    assert 'id="annotate-head" hx-swap-oob="true"' in part


def test_after_the_last_turn_the_next_dialogue_is_one_key_away(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round(max_turns=1)
    comparison = make_ready_comparison(annotator, round_=round_)
    response = annotator_client.post(
        reverse("judge", args=[comparison.pk]), judgement_fields(comparison), follow=True
    )
    page = response.content.decode()
    assert "Dialogue finished" in page
    assert "Next task" in page
    assert "autofocus" in page


# Passing on, flags, finishing


def test_skipping_takes_a_reason_and_frees_the_slot(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    address = reverse("skip", args=[comparison.pk])
    assert "Choose a reason" in annotator_client.post(address, follow=True).content.decode()
    response = annotator_client.post(address, {"reason": "too_disturbing"}, follow=True)
    assert "it costs you nothing" in response.content.decode()
    comparison.refresh_from_db()
    assert (comparison.state, comparison.holds_slot) == ("skipped", False)


def test_a_flag_brings_a_pair_before_a_reviewer_and_it_may_still_be_judged(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    address = reverse("flag", args=[comparison.pk])
    response = annotator_client.post(address, {"note": "names a person"}, follow=True)
    assert "a reviewer will look at it" in response.content.decode()
    comparison.refresh_from_db()
    assert (comparison.is_flagged, comparison.flag_note) == (True, "names a person")
    annotator_client.post(reverse("judge", args=[comparison.pk]), judgement_fields(comparison))
    assert Judgement.objects.count() == 1


def test_a_dialogue_can_be_finished_early(annotator_client: Client, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    judge(comparison)
    address = reverse("finish", args=[comparison.dialogue_id])
    response = annotator_client.post(address, follow=True)
    assert "1 pair judged" in response.content.decode()


def test_looking_at_a_pair_renews_its_lease(annotator_client: Client, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    before = comparison.lease_expires_at
    assert annotator_client.post(reverse("beat", args=[comparison.pk])).status_code == 204
    comparison.refresh_from_db()
    assert comparison.lease_expires_at > before


# Other people's


def test_what_belongs_to_another_annotator_is_not_there(annotator_client: Client) -> None:
    comparison = make_ready_comparison(make_annotator("bo"))
    for name in ("judge", "skip", "flag", "beat"):
        response = annotator_client.post(reverse(name, args=[comparison.pk]))
        assert response.status_code == 404, name
    for name in ("prompt", "finish"):
        response = annotator_client.post(reverse(name, args=[comparison.dialogue_id]))
        assert response.status_code == 404, name
    page = annotator_client.get(reverse("dialogue", args=[comparison.dialogue_id]))
    assert page.status_code == 404
    assert "There is nothing here" in page.content.decode()
    fields = {"dialogue": comparison.dialogue_id, "text": "mine?"}
    assert annotator_client.post(reverse("draft"), fields).status_code == 404


def test_the_guidelines_open_beside_the_responses(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    assert 'aria-label="Guidelines" hidden' in annotator_client.get(address).content.decode()
    page = annotator_client.get(f"{address}?guidelines=1").content.decode()
    assert 'aria-label="Guidelines">' in page


def test_every_form_carries_a_key_of_its_own(annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    client = signed_in(annotator)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    keys = {client.get(address).context["form"]["client_key"].value() for _ in range(3)}
    assert len(keys) == 3
