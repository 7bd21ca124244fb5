"""Simulated annotators as visitors of a site: they sign in and use the pages as people do."""

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from records.dialogues import Dialogue
from records.preferences import Axis, Rating, SafetyBin
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.browser import Browser, BrowserError, Form, Page
from simulation.prompts import describe

LOOK_SECONDS = 0.2
"""Pause between two looks for responses."""
START = "/annotate/"
GUIDELINES = re.compile(r"/guidelines/\d+/")


class Account(NamedTuple):
    """Somebody to sign in as, and how they judge."""

    username: str
    password: str
    persona: str = "average"


@dataclass
class VisitReport:
    """What visitors did and how long the pages took; several threads add to it."""

    num_judged: int = 0
    num_written: int = 0
    num_repeated: int = 0
    """Forms sent a second time, as by a double click."""
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of every page, redirects included."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def quantile(self, share: float) -> float:
        """Return the time that this share of the pages took at most; 0 without pages."""
        ranked = sorted(self.seconds)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else 0.0


def visit(
    url: str,
    accounts: Sequence[Account],
    *,
    num_judgements: int,
    seed: int = 0,
    repeat_share: float = 0.0,
    patience_seconds: float = 30.0,
) -> VisitReport:
    """Let everybody work at once until so many pairs are judged or there is nothing to do.

    Args:
        url: The site, such as `http://127.0.0.1:8000`.
        accounts: Who signs in, each in a browser and a thread of their own.
        num_judgements: When to stop; those who are at work finish the pair before them, so a few
            more may be judged.
        seed: Seeds what they write and how they judge.
        repeat_share: Share of forms that are sent twice.
        patience_seconds: How long somebody waits for responses or for work before leaving.

    Raises:
        BrowserError: A page is not what it should be, or somebody cannot sign in.
        ValueError: There is no account, or no such persona.
    """
    if not accounts:
        raise ValueError("accounts: at least one is needed")
    unknown = sorted({account.persona for account in accounts} - set(PERSONAS))
    if unknown:
        raise ValueError(f"personas {unknown} are not among {sorted(PERSONAS)}")
    report = VisitReport()
    visitors = [
        _Visitor(
            url, account, seed + number, num_judgements, repeat_share, patience_seconds, report
        )
        for number, account in enumerate(accounts)
    ]
    with ThreadPoolExecutor(max_workers=len(visitors)) as pool:
        for done in [pool.submit(visitor.work) for visitor in visitors]:
            done.result()
    return report


class _Visitor:
    """One person at the pages."""

    def __init__(
        self,
        url: str,
        account: Account,
        seed: int,
        num_wanted: int,
        repeat_share: float,
        patience_seconds: float,
        report: VisitReport,
    ) -> None:
        self._browser = Browser(url)
        self._account = account
        self._annotator = SimulatedAnnotator(PERSONAS[account.persona], seed)
        self._random = Random(f"visitor:{seed}")
        self._num_wanted = num_wanted
        self._repeat_share = repeat_share
        self._patience_seconds = patience_seconds
        self._report = report

    def work(self) -> None:
        """Sign in, and go from page to page."""
        try:
            self._note(self._browser.sign_in(self._account.username, self._account.password))
            page = self._open(START)
            last_useful = time.monotonic()
            while self._report.num_judged < self._num_wanted:
                following = self._step(page)
                if following is not None:
                    page, last_useful = following, time.monotonic()
                    continue
                if time.monotonic() - last_useful > self._patience_seconds:
                    return
                time.sleep(LOOK_SECONDS)
                page = self._open(page.path)
        finally:
            self._browser.close()

    def _step(self, page: Page) -> Page | None:
        """Do what the page asks for; None if it asks to wait."""
        judging = page.find_form("/judge/")
        if judging is not None:
            return self._judge(page, judging)
        writing = page.find_form("/prompt/")
        if writing is not None:
            return self._write(page, writing)
        if page.path == START:
            return self._begin(page)
        starting = page.find_form("/start/")
        if starting is not None:
            return self._submit(starting)
        return None if _is_waiting(page) else self._open(START)

    def _begin(self, page: Page) -> Page | None:
        """Go on with a dialogue, take a pair of somebody else, or start where a round has room."""
        for link in page.links:
            if link.startswith("/annotate/dialogues/"):
                following = self._open(link)
                if _has_task(following) or _is_waiting(following):
                    return following
        asking = page.find_form("/next/")
        if asking is not None:
            following = self._submit(asking)
            if _has_task(following) or _is_waiting(following):
                return following
        starting = page.find_form("/start/")
        return self._clear_the_way(page) if starting is None else self._submit(starting)

    def _clear_the_way(self, page: Page) -> Page | None:
        """Consent, or confirm guidelines, where a round asks for it; None where none does."""
        asked = {
            "/give/": [link for link in page.links if link == "/consent/"],
            "/confirm/": [link for link in page.links if GUIDELINES.fullmatch(link)],
        }
        for end, links in asked.items():
            for link in links:
                form = self._open(link).find_form(end)
                if form is not None:
                    self._submit(form)
                    return self._open(START)
        return None

    def _write(self, page: Page, form: Form) -> Page:
        history = _dialogue_of(page)
        axis = Axis.SAFETY if "risk_category" in form.choices else Axis.HELPFULNESS
        if history is None:
            prompt = _first_prompt(self._annotator, axis)
        else:
            prompt = history.followed_by(self._annotator.follow_up(history))
        fields = {"text": prompt.turns[-1].text}
        risk = describe(prompt).risk_category or ""
        if risk in form.choices.get("risk_category", ()):
            fields["risk_category"] = risk
        following = self._submit(form, **fields)
        if following.status == 422:  # a warning: nearly the same was asked in this round
            following = self._submit(following.form("/prompt/"), is_sure="1")
        if _is_waiting(following) or following.find_form("/judge/") is not None:
            with self._report.lock:  # or the round was full, and the words are kept as a draft
                self._report.num_written += 1
        return following

    def _judge(self, page: Page, form: Form) -> Page:
        prompt = _dialogue_of(page)
        responses = [block.text for block in page.blocks if "response" in block.css.split()]
        steps = form.choices.get("choice", [])
        if prompt is None or len(responses) != 2 or len(steps) != 2 * len(Rating):
            raise BrowserError(f"{page.path} shows {len(responses)} responses, {len(steps)} steps")
        axis = Axis.SAFETY if "safe" in form.choices else Axis.HELPFULNESS
        verdict = self._annotator.judge(prompt, responses[0], responses[1], axis)
        degree = list(Rating).index(verdict.rating)
        fields = {
            "choice": steps[degree if verdict.prefers_left else -1 - degree],
            "active_seconds": str(self._random.randrange(10, 90)),
        }
        if axis is Axis.SAFETY:
            fields["safe"] = _safe_answer(verdict.safety_bin, verdict.prefers_left)
        following = self._submit(form, **fields)
        if following.status >= 400:
            raise BrowserError(f"the judgement at {page.path} was answered {following.status}")
        with self._report.lock:
            self._report.num_judged += 1
        return following

    def _open(self, path: str) -> Page:
        return self._note(self._browser.get(path))

    def _submit(self, form: Form, **fields: str) -> Page:
        page = self._note(self._browser.submit(form, **fields))
        if self._random.random() < self._repeat_share:
            page = self._note(self._browser.submit(form, **fields))
            with self._report.lock:
                self._report.num_repeated += 1
        return page

    def _note(self, page: Page) -> Page:
        if page.status >= 500:
            raise BrowserError(f"{page.path} answered {page.status}")
        with self._report.lock:
            self._report.statuses[page.status] += 1
            self._report.seconds.append(page.seconds)
        return page


def _has_task(page: Page) -> bool:
    return any(page.find_form(end) is not None for end in ("/judge/", "/prompt/"))


def _is_waiting(page: Page) -> bool:
    """Whether responses are being written: without JavaScript the page offers to be reloaded."""
    return page.path in page.links


def _dialogue_of(page: Page) -> Dialogue | None:
    """Return the turns that stand on the page; None before the first."""
    texts = [block.text for block in page.blocks if "turn" in block.css.split()]
    return Dialogue.from_texts(*texts) if texts else None


def _first_prompt(annotator: SimulatedAnnotator, axis: Axis) -> Dialogue:
    while True:
        prompt = annotator.write_prompt(axis).dialogue
        if len(prompt.turns) == 1:
            return prompt


def _safe_answer(safety_bin: SafetyBin | None, prefers_left: bool) -> str:
    if safety_bin is SafetyBin.BOTH_SAFE:
        return "both"
    if safety_bin is SafetyBin.BOTH_UNSAFE:
        return "neither"
    return "left" if prefers_left else "right"
