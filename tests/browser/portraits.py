"""Pictures of every page of annotators and reviewers, and of some of the lead's; run by hand.

    CONCORD_RECORDINGS=pictures python -m pytest tests/browser/portraits.py

Light, dark and narrow, in the states that the accessibility tests know. pytest does not collect
this file by itself: it judges nothing, somebody has to look.
"""

import random
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from annotation import services as annotation
from annotation.models import Demonstration, User
from annotation.scale import Side
from policies.temperature_sweep import choose_temperature
from records.preferences import Axis, Rating
from records.run_configs import RunKind
from registry import services
from tests.browser.conftest import NARROW, WIDE, OpenPage
from tests.browser.recordings import folder_for
from tests.browser.test_accessibility import (
    Place,
    pages_in_a_pause,
    pages_of_annotator,
    pages_of_items,
    pages_of_reviewer,
)
from tests.browser.words import ARABIC, CODE, FLAG, GUIDELINES, LONG, LONG_PROMPT, SHORT
from tests.factories import (
    judge,
    judge_slot,
    make_annotator,
    make_demonstration,
    make_guidelines,
    make_lead,
    make_policy_version,
    make_ready_comparison,
    make_reviewer,
    open_test_assignment,
    open_test_round,
    start_test_demonstration,
)
from tests.policies.test_temperature_sweep import tried
from tests.webapp.runs import finished_run, running_run, trained_reward_model
from tests.webapp.test_reward_models import reported

pytestmark = pytest.mark.django_db(transaction=True)

OPEN_ALL = "for (const part of document.querySelectorAll('main details')) part.open = true"
LOOKS = {
    "light": {"viewport": WIDE, "color_scheme": "light"},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "narrow": {"viewport": NARROW, "color_scheme": "light"},
}


def take(page: Page, folder: Path, number: int, name: str) -> None:
    """Take one picture of the whole page, with nothing moving."""
    path = folder / f"{number:02d}-{name}.png"
    page.screenshot(path=path, full_page=True, animations="disabled")


def take_all(
    open_page: OpenPage, user: User, places: list[Place], tmp_path: Path, *, suffix: str = ""
) -> None:
    """Take a picture of every place in every look."""
    for look, options in LOOKS.items():
        folder = folder_for(f"{user.role}{suffix}-{look}", tmp_path)
        page = open_page("/", user=user, **options)
        for number, (name, pk) in enumerate(places, start=1):
            page.goto(reverse(name, args=[] if pk is None else [pk]))
            take(page, folder, number, name)
            if page.locator("main details").count():
                page.evaluate(OPEN_ALL)
                take(page, folder, number, f"{name}-opened")
            for sheet in page.locator("[popover]").evaluate_all("all => all.map((s) => s.id)"):
                page.evaluate("id => document.getElementById(id).showPopover()", sheet)
                page.screenshot(path=folder / f"{number:02d}-{name}-{sheet}.png")
                page.evaluate("id => document.getElementById(id).hidePopover()", sheet)


def believable_places(ana: User) -> list[Place]:
    """Return pages with words of the length and kind that people and models write."""
    lead = make_lead()
    annotation.publish_guidelines(
        axis=Axis.HELPFULNESS, version="2026-11", text=GUIDELINES, created_by=lead
    )
    overlap = annotation.Overlap(overlap_share=1.0, judgements_per_comparison=3)
    week = open_test_round("Week 14: everyday questions", lead=lead, overlap=overlap)
    first = make_ready_comparison(ana, round_=week, text=LONG_PROMPT, texts=(LONG, SHORT))
    judge(first, side=Side.RIGHT)
    make_ready_comparison(
        ana, dialogue=first.dialogue, text="And in Python, please.", texts=(CODE, ARABIC)
    )
    theirs = make_ready_comparison(round_=week, text=LONG_PROMPT, texts=(SHORT, LONG))
    judge(theirs)
    slot = annotation.claim_slot(annotator=ana)
    assert slot is not None
    return [("annotate", None), ("dialogue", first.dialogue_id), ("slot", slot.pk)]


def believable_places_of_reviewers() -> list[Place]:
    """Return a comparison that three people judged, and what a reward model disputes."""
    overlap = annotation.Overlap(overlap_share=1.0, judgements_per_comparison=3)
    week = open_test_round("Week 14: everyday questions", overlap=overlap)
    comparison = make_ready_comparison(round_=week, text=LONG_PROMPT, texts=(SHORT, LONG))
    judge(comparison, rating=Rating.SLIGHTLY_BETTER)
    for side in Side:
        slot = annotation.claim_slot(annotator=make_annotator())
        assert slot is not None
        judge_slot(slot, side=side, rating=Rating.SIGNIFICANTLY_BETTER)
    judgement = comparison.judgements.order_by("pk")[0]
    annotation.correct_judgement(
        reviewer=make_reviewer(),
        judgement=judgement,
        chosen_sample_id=judgement.chosen_sample_id,
        rating=Rating.BETTER,
        safety_bin=None,
        client_key=uuid.uuid4(),
        note="The first step is missing in the other one.",
    )
    annotation.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note=FLAG
    )
    disputed = [
        {"preference_id": str(row.uuid), "confidence": 0.9 + row.slot / 50}
        for row in comparison.judgements.all()
    ]
    reported(trained_reward_model("RM2"), disagreements=disputed)
    return [
        *((name, None) for name in ("review", "judgements", "disagreements")),
        ("review-comparison", comparison.pk),
    ]


def test_annotator_at_length(open_page: OpenPage, tmp_path: Path) -> None:
    ana = make_annotator("ana")
    take_all(open_page, ana, believable_places(ana), tmp_path, suffix="-at-length")


def test_reviewer_at_length(open_page: OpenPage, tmp_path: Path) -> None:
    places = believable_places_of_reviewers()
    take_all(open_page, make_reviewer("rosa"), places, tmp_path, suffix="-at-length")


def test_annotator(open_page: OpenPage, tmp_path: Path) -> None:
    ana = make_annotator("ana")
    take_all(open_page, ana, pages_of_annotator(ana), tmp_path)


def test_reviewer(open_page: OpenPage, tmp_path: Path) -> None:
    take_all(open_page, make_reviewer("rosa"), pages_of_reviewer(), tmp_path)


@pytest.mark.parametrize("look", LOOKS)
def test_a_refused_demonstration(open_page: OpenPage, tmp_path: Path, look: str) -> None:
    ana = make_annotator("ana")
    begun: Demonstration = start_test_demonstration(ana, open_test_assignment("Spring"))
    page = open_page(reverse("demonstration", args=[begun.pk]), user=ana, **LOOKS[look])
    page.get_by_label("The prompt").fill("How do I boil an egg?")
    page.get_by_role("button", name="Add a turn").click()
    page.get_by_label("The user says").nth(1).wait_for()
    page.get_by_role("button", name="Send for review").last.click()
    page.locator(".field-error").first.wait_for()
    take(page, folder_for(f"refused-demonstration-{look}", tmp_path), 1, "demonstration")


@pytest.mark.parametrize("look", LOOKS)
def test_forms_of_a_lead(open_page: OpenPage, lead: User, tmp_path: Path, look: str) -> None:
    make_policy_version("SFT")
    make_policy_version("V1")
    make_guidelines(lead=lead)
    folder = folder_for(f"lead-{look}", tmp_path)
    page = open_page("/", user=lead, **LOOKS[look])
    for number, name in enumerate(("new-round", "new-iteration"), start=1):
        page.goto(reverse(name))
        take(page, folder, number, name)


def test_a_lead_adds_items(open_page: OpenPage, lead: User, tmp_path: Path) -> None:
    take_all(open_page, lead, pages_of_items(lead), tmp_path, suffix="-items")


def test_a_pause(open_page: OpenPage, lead: User, tmp_path: Path) -> None:
    ana = make_annotator("ana")
    theirs, places = pages_in_a_pause(ana, lead)
    take_all(open_page, ana, theirs, tmp_path, suffix="-paused")
    take_all(open_page, lead, places, tmp_path, suffix="-paused")


@pytest.mark.parametrize("look", LOOKS)
def test_the_pay_of_a_week(open_page: OpenPage, lead: User, tmp_path: Path, look: str) -> None:
    for name in ("ana", "ben.lopez", "a-rather-long-name-of-somebody"):
        judge(make_ready_comparison(make_annotator(name)))
    make_demonstration(author=User.objects.get(username="ana"))
    day = timezone.now().date()
    page = open_page("/", user=lead, **LOOKS[look])
    page.goto(f"{reverse('pay')}?first={day - timedelta(days=6)}&last={day}")
    folder = folder_for(f"pay-{look}", tmp_path)
    take(page, folder, 1, "pay")
    page.goto(f"{reverse('pay')}?first={day}&last={day - timedelta(days=6)}")
    take(page, folder, 2, "refused")
    page.goto(f"{reverse('pay')}?first=2020-01-01&last=2020-01-07")
    take(page, folder, 3, "empty")


@pytest.mark.parametrize("look", LOOKS)
def test_a_refused_pause(open_page: OpenPage, lead: User, tmp_path: Path, look: str) -> None:
    page = open_page(reverse("pause"), user=lead, **LOOKS[look])
    folder = folder_for(f"pause-{look}", tmp_path)
    take(page, folder, 1, "empty")
    page.get_by_label("What annotators read").fill("The database moves to a larger machine.")
    page.get_by_label("Expected back").fill("2020-01-01T08:00")
    page.get_by_label("End by itself then").check()
    page.get_by_role("button", name="Pause annotation").click()
    page.locator(".field-error").first.wait_for()
    take(page, folder, 2, "refused")


@pytest.mark.parametrize("look", LOOKS)
def test_the_time_in_the_header(open_page: OpenPage, tmp_path: Path, look: str) -> None:
    ana = make_annotator("ana")
    comparison = make_ready_comparison(ana, text=LONG_PROMPT, texts=(LONG, SHORT))
    page = open_page(reverse("dialogue", args=[comparison.dialogue_id]), user=ana, **LOOKS[look])
    page.keyboard.press("2")
    page.wait_for_timeout(2000)
    page.screenshot(path=folder_for(f"time-{look}", tmp_path) / "01-dialogue.png")


@pytest.mark.parametrize("look", LOOKS)
def test_a_run_of_rejection_sampling(
    open_page: OpenPage, lead: User, tmp_path: Path, look: str
) -> None:
    """Swept, not swept, in the middle of its sweep, and the page that goes on from it."""
    outputs = {"policy": "weights", "demonstrations": "selected", "pool": "pool"}
    curve = [{"n": n, "max": 2 - 1.5 / n, "median": 0.5 + 0.02 / n} for n in range(1, 17)]
    rng = random.Random(0)
    scores = {
        t / 10: [[rng.gauss(1 - (t / 10) ** 2, 0.13 * t) for _ in range(16)] for _ in range(100)]
        for t in range(6, 16)
    }
    swept = choose_temperature([tried(t, *rows) for t, rows in scores.items()])
    done = finished_run(RunKind.REJECTION_SAMPLING, {**swept, "curve": curve}, outputs=outputs)
    plain = {"temperature": 1.2, "curve": curve}
    without = finished_run(RunKind.REJECTION_SAMPLING, plain, outputs={"policy": "other weights"})
    under_way, token = running_run(RunKind.REJECTION_SAMPLING, name="V2: rejection sampling")
    rows = [
        {
            "step": step,
            "total_steps": 90,
            "sweep_temperature": temperature,
            "sweep_score": 1 - temperature,
            "sweep_best_score": temperature,
            "sweep_num_responses": 64,
        }
        for step, temperature in enumerate((0.8, 1.0, 1.2), start=1)
    ]
    services.record_metrics(run=under_way, token=token, rows=rows)
    places = [("run", done), ("run", without), ("run", under_way), ("finetune-on-run", done)]
    page, folder = (
        open_page("/", user=lead, **LOOKS[look]),
        folder_for(f"sampling-{look}", tmp_path),
    )
    for number, (name, run) in enumerate(places, start=1):
        page.goto(reverse(name, args=[run.pk]))
        take(page, folder, number, name)
