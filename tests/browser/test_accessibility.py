"""Every page of annotators and reviewers against WCAG 2.2 AA, by axe-core in Chromium."""

import uuid
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, ViewportSize, expect

from annotation import services
from annotation.models import Attempt, Dialogue, Slot, User
from annotation.scale import Side
from annotation.services import Guidance, PartFields, QuestionFields
from records.preferences import Axis
from tests.annotation.test_blind_checks import approve, ready_check
from tests.annotation.test_pauses import in_hours, let_pass, pause
from tests.annotation.test_slots import open_overlap_round
from tests.browser.conftest import NARROW, WIDE, OpenPage
from tests.browser.words import CODE, LONG, LONG_PROMPT
from tests.factories import (
    PAIR,
    decide,
    draw_samples,
    judge,
    judge_slot,
    lines_of,
    make_annotator,
    make_demonstration,
    make_guidelines,
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    make_reviewer,
    open_imported_round,
    open_test_assignment,
    open_test_round,
    pair_line,
    prompt_line,
    start_test_demonstration,
    start_test_dialogue,
    take_part,
    write_test_prompt,
)
from tests.webapp.test_access import ANNOTATORS, EVERYBODY, REVIEWERS, TABLE

pytestmark = pytest.mark.django_db(transaction=True)

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS: dict[str, tuple[ViewportSize, Literal["light", "dark"]]] = {
    "light, wide": (WIDE, "light"),
    "light, narrow": (NARROW, "light"),
    "dark, wide": (WIDE, "dark"),
    "dark, narrow": (NARROW, "dark"),
}
CHANGE_AT_ONCE = """() => {
    // Else a busy machine may show a colour of one look on the ground of another.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('*, *::before, *::after { transition: none !important; }');
    document.adoptedStyleSheets.push(sheet);
}"""
NO_PAGES = {
    *("home", "draft", "start", "prompt", "finish", "judge", "skip", "flag", "beat"),
    *(
        "retract",
        "restore",
        "retract-slot",
        "restore-slot",
        "next-task",
        "judge-slot",
        "skip-slot",
        "flag-slot",
        "beat-slot",
    ),
    *("start-demonstration", "give-up", "demonstration-draft", "sitting-draft"),
    *("give-consent", "withdraw", "confirm-guidelines"),
    *("judgement", "reopen-demonstration", "undo-decision", "second-reading"),
}
"""Addresses that take a form or lead elsewhere; a refused form is answered with its page."""
CHOICE = QuestionFields("choice", "Which is right?", ("This one.", "That one."), 0)
WRITTEN = QuestionFields("written", "Explain why the sky is blue.")

Place = tuple[str, int | None]
"""Name of an address and the id in it."""


def violations(page: Page, part: str = "html") -> list[str]:
    """Return what axe-core finds in a part of a page (a selector): rule and elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found = page.evaluate("([part, options]) => axe.run(part, options)", [part, options])
    return [
        f"{rule['id']}: {node['html'][:160]} - {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def problems_of(page: Page, places: list[Place]) -> Iterator[str]:
    """Visit pages and look at each in four ways, with everything open that can be opened.

    What is closed shows a part of what is there when it is open, and nothing else.
    """
    for name, pk in places:
        page.goto(reverse(name, args=[] if pk is None else [pk]))
        assert page.title(), name
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        for look in looks_at(page):
            yield from (f"{name}, {look}: {problem}" for problem in problems_here(page))


def looks_at(page: Page) -> Iterator[str]:
    """Show the page in four ways, one after the other."""
    page.evaluate(CHANGE_AT_ONCE)
    for look, (viewport, scheme) in LOOKS.items():
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        yield look


def problems_here(page: Page) -> Iterator[str]:
    """Yield what is wrong with the page as it is shown, and with each sheet over it."""
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        yield "wider than the screen"
    yield from violations(page)
    for sheet in page.locator("[popover]").evaluate_all("found => found.map((s) => s.id)"):
        page.evaluate("id => document.getElementById(id).showPopover()", sheet)
        yield from (f"{sheet}: {problem}" for problem in violations(page, f"#{sheet}"))
        page.evaluate("id => document.getElementById(id).hidePopover()", sheet)


def pages_of_annotator(ana: User) -> list[Place]:
    """Return pages in every state that an annotator may see."""
    lead = make_lead()
    open_test_round(axis=Axis.SAFETY)
    guidance = Guidance(
        system_prompt="You are a poet.", topic="Cooking", goal="A recipe.", good_examples="An egg?"
    )
    dialogues = [
        start_test_dialogue(ana, open_test_round(guidance=guidance)),
        judge(make_ready_comparison(ana)).comparison.dialogue,
        make_ready_comparison(ana, text=LONG_PROMPT, texts=(LONG, CODE)).dialogue,
        make_ready_comparison(ana, round_=open_test_round(axis=Axis.SAFETY)).dialogue,
        judge(make_ready_comparison(ana, round_=open_test_round(max_turns=1))).comparison.dialogue,
        start_test_dialogue(ana, held := open_test_round()),
        waiting := start_test_dialogue(ana, open_test_round()),
    ]
    dialogues += imported_dialogues_of(ana)
    slots = slots_of(ana)
    # Nothing is drawn from here on: it waits.
    dialogues.append(start_test_dialogue(ana, open_imported_round(prompt_line("egg"))))
    write = PartFields("Write", rule="mean_grade", mark=4, minutes=60)
    test = make_qualification((write, [WRITTEN]), name="Language")
    begun = [test, make_qualification((PartFields("Choose"), [CHOICE, PAIR]), name="Choices")]
    sittings = [
        services.start_sitting(
            annotator=ana,
            attempt=services.start_attempt(annotator=ana, qualification=qualification),
        )
        for qualification in begun
    ]
    other = make_qualification(kind="tutorial", name="First steps")
    passed = make_qualification(name="Pairs")
    take_part(ana, passed, 0)
    services.require_qualifications(lead=lead, qualifications=[test, other], round_=held)
    document = services.publish_consent_document(
        version="1", text="We **store** what you judge.", created_by=lead
    )
    services.give_consent(annotator=ana, document=document)
    first, second = (
        services.publish_guidelines(
            axis=Axis.SAFETY, version=version, text=f"# {version}\n\nBe kind.", created_by=lead
        )
        for version in ("old", "new")
    )
    services.confirm_guidelines(annotator=ana, guidelines=first)
    writing = start_test_demonstration(ana, open_test_assignment())
    sent_back = make_demonstration(author=ana)
    decide(sent_back, "rejected")
    write_test_prompt(ana, waiting)
    return [
        ("annotate", None),
        *(("dialogue", dialogue.pk) for dialogue in dialogues),
        *(("slot", slot.pk) for slot in slots),
        *(("test", pk) for pk in (test.pk, other.pk, passed.pk)),
        *((name, None) for name in ("tests", "consent", "wellbeing", "demonstrations")),
        *(("sitting", sitting.pk) for sitting in sittings),
        *(("demonstration", made.pk) for made in (writing, sent_back)),
        *((name, None) for name in ("guidelines-history", "password")),
        ("guidelines-compared", second.pk),
    ]


def imported_dialogues_of(ana: User) -> list[Dialogue]:
    """Return imported dialogues: a pair to be judged, one set aside, one passed on, one judged."""
    opened = open_imported_round(pair_line("tea", LONG, CODE, system="Be brief."))
    ready = start_test_dialogue(ana, opened)
    failed = start_test_dialogue(ana, open_imported_round(prompt_line("rice", "Rice?")))
    for _ in range(3):
        draw_samples(("Same.", "Same."))
    passed_on = start_test_dialogue(ana, open_imported_round(pair_line("salt")))
    comparison = passed_on.comparisons.get()
    services.skip_comparison(annotator=ana, comparison=comparison, reason="other")
    judged = start_test_dialogue(ana, open_imported_round(pair_line("milk")))
    judge(judged.comparisons.get())
    return [ready, failed, passed_on, judged]


def slots_of(ana: User) -> list[Slot]:
    """Return pairs of others: taken back, judged, and to be judged."""
    slots = []
    for _ in range(3):
        make_judgement(round_=open_overlap_round())
        slot = services.claim_slot(annotator=ana)
        assert slot is not None
        slots.append(slot)
        if len(slots) < 3:
            judgement = judge_slot(slot)
        if len(slots) == 1:
            services.retract_judgement(annotator=ana, judgement=judgement, client_key=uuid.uuid4())
    return slots


def pages_of_items(lead: User) -> list[Place]:
    """Return the lead's pages of a round that is given more items, in every state."""
    round_ = open_imported_round(pair_line("tea"), lead=lead)
    files = [
        lines_of([pair_line("tea"), pair_line("milk"), pair_line("salt", "Same.", "Same.")]),
        lines_of([pair_line("rice")]),
        lines_of([pair_line("tea")]),
        lines_of([prompt_line("tea")]),
        lines_of([pair_line("egg")]),
    ]
    uploads = [
        services.receive_items(lead=lead, round_=round_, name="week-14.jsonl", chunks=[content])
        for content in files
    ]
    for upload in uploads[:-1]:
        services.work_on_upload(upload.pk)
    services.accept_upload(lead=lead, upload=uploads[1])
    services.work_on_upload(uploads[1].pk)
    return [
        ("round", round_.pk),
        ("items", round_.pk),
        *(("item-upload", upload.pk) for upload in uploads),
        ("round-access", round_.pk),
        ("new-round", None),
    ]


def pages_in_a_pause(ana: User, lead: User) -> tuple[list[Place], list[Place]]:
    """Return pages of an annotator and of a lead while annotation is paused, and the pay report."""
    test = make_qualification(name="Language")
    full = start_test_dialogue(ana, open_test_round("Week 13", target_comparisons=1))
    make_ready_comparison(round_=full.round)
    make_judgement(ana, round_=open_test_round("Week 14"))
    open_test_assignment("Spring")
    let_pass(pause("The database moves.", back_at=in_hours(1), ends_itself=True))
    pause("We replace a disk; your drafts are safe.", back_at=in_hours(2), lead=lead)
    annotators: list[Place] = [(name, None) for name in ("annotate", "demonstrations", "tests")]
    return (
        [*annotators, ("test", test.pk), ("dialogue", full.pk)],
        [(name, None) for name in ("pause", "rounds", "dashboard", "pay")],
    )


def pages_of_reviewer() -> list[Place]:
    """Return pages in every state that a reviewer may see."""
    disputed = make_judgement(round_=open_overlap_round(axis=Axis.SAFETY))
    slot = services.claim_slot(annotator=make_annotator())
    assert slot is not None
    judge_slot(slot, side=Side.RIGHT)
    excluded = make_judgement()
    services.exclude_judgement(reviewer=make_reviewer(), judgement=excluded, reason="spam")
    flagged = make_ready_comparison()
    services.flag_comparison(
        annotator=flagged.dialogue.annotator, comparison=flagged, note="names a person"
    )
    approve(2)
    check = ready_check(2)
    waiting, decided = make_demonstration(), make_demonstration()
    decide(decided, "approved")
    test = make_qualification((PartFields("Write", rule="mean_grade", mark=4), [WRITTEN]))
    attempt: Attempt = take_part(make_annotator(), test, "Light is scattered.")
    reviewed = [disputed.comparison_id, excluded.comparison_id, flagged.pk]
    return [
        *((name, None) for name in ("review", "judgements", "disagreements")),
        ("review-demonstrations", None),
        *(("review-comparison", pk) for pk in reviewed),
        *(("review-demonstration", made.pk) for made in (waiting, decided)),
        *((name, None) for name in ("blind-checks", "gradings", "guidelines-history", "password")),
        ("blind-check", check.pk),
        ("blind-pair", check.pairs.order_by("pk")[0].pk),
        ("grading", attempt.sittings.get().pk),
        ("guidelines", make_guidelines().pk),
        ("guidelines-compared", make_guidelines().pk),
    ]


def test_no_page_of_an_annotator_violates_wcag(open_page: OpenPage) -> None:
    ana = make_annotator("ana")
    places = pages_of_annotator(ana)
    asked = {name for name, roles in TABLE.items() if roles in (ANNOTATORS, EVERYBODY)}
    assert {name for name, _ in places} == asked - NO_PAGES
    assert list(problems_of(open_page(reverse("annotate"), user=ana), places)) == []


def test_no_page_of_a_reviewer_violates_wcag(open_page: OpenPage) -> None:
    places = pages_of_reviewer()
    asked = {name for name, roles in TABLE.items() if roles in (REVIEWERS, EVERYBODY)}
    assert {name for name, _ in places} == asked - NO_PAGES
    assert list(problems_of(open_page(reverse("review"), user=make_reviewer()), places)) == []


def test_no_page_on_which_a_round_gets_its_items_violates_wcag(open_page: OpenPage) -> None:
    lead = make_lead("maria")
    places = pages_of_items(lead)
    assert list(problems_of(open_page(reverse("rounds"), user=lead), places)) == []


def test_no_page_of_a_pause_or_of_pay_violates_wcag(open_page: OpenPage) -> None:
    ana, lead = make_annotator("ana"), make_lead("maria")
    theirs, places = pages_in_a_pause(ana, lead)
    assert list(problems_of(open_page(reverse("annotate"), user=ana), theirs)) == []
    page = open_page(reverse("rounds"), user=lead)
    today = f"{timezone.now().date()}"
    for address in (
        *(reverse(name) for name, _ in places),
        f"{reverse('pay')}?first={today}&last={today}",
        f"{reverse('pay')}?first=2026-01-07&last=2026-01-01",
    ):
        page.goto(address)
        for look in looks_at(page):
            assert list(problems_here(page)) == [], (address, look)
    page.goto(reverse("pause"))
    page.get_by_label("Expected back").fill("2026-01-01T10:00")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".field-error")).to_be_visible()
    for look in looks_at(page):
        assert list(problems_here(page)) == [], look


def test_the_way_in_and_an_empty_site_do_not_violate_wcag(open_page: OpenPage) -> None:
    pages = [
        open_page(reverse("sign-in")),
        open_page(reverse("annotate"), user=make_annotator()),
        open_page(reverse("review"), user=make_reviewer()),
        open_page(f"/nothing/{uuid.uuid4()}/", user=make_annotator("ana")),
    ]
    for page in pages:
        for look in looks_at(page):
            assert violations(page) == [], (page.url, look)


def test_a_page_that_violates_wcag_is_seen(open_page: OpenPage) -> None:
    page = open_page(reverse("sign-in"))
    page.evaluate("document.querySelector('main').innerHTML += '<input name=nameless>'")
    assert [problem.partition(":")[0] for problem in violations(page)] == ["label"]
