"""Simulated annotators at work: they write prompts and judge pairs through the services people use.

One loop keeps many of them busy, because each spends most of its time waiting for responses. So
the sampler always finds a full batch, and a comparison costs the time of its services.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from annotation import services
from annotation.errors import NoItemLeftError, RoundClosedError, RoundFullError
from annotation.histories import prompt_of
from annotation.models import Comparison, Dialogue, Round, Sample, User
from annotation.scale import Side
from annotation.selectors import slot_pair_view
from annotation.services import NewUser
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.prompts import describe
from workers import dispatch

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.02
"""Pause between two looks for fresh responses when there were none."""
PATIENCE_SECONDS = 300.0
"""Without any response for so long, the crowd gives up."""
ACTIVE_SECONDS = 30.0
"""The time a simulated annotator says it took."""
_CROWD_LOCK = 7301
"""Class of the advisory locks that crowds hold, one per round."""
DEFAULT_MIX: Mapping[str, float] = {"careful": 0.3, "average": 0.6, "hasty": 0.1}
"""Shares of the personas in a crowd."""


class CrowdStalledError(RuntimeError):
    """No response came for a long time."""

    def __init__(self, num_waiting: int, seconds: float) -> None:
        super().__init__(
            f"{num_waiting} comparisons wait for responses and none came for {seconds:.0f} s; "
            "start a worker of the sampling queue: celery -A workers worker -Q sampling"
        )


class CrowdReport(NamedTuple):
    """What a crowd did."""

    num_judged: int
    num_further: int
    """Pairs of others judged: overlap, second readings, gold and repeats."""
    num_failed: int
    """Comparisons for which the policies had no usable pair."""
    seconds: float
    service_seconds: float
    """Time spent in services, the waiting for responses left out."""


def fill_round(round_id: int, *, num_annotators: int, seed: int) -> CrowdReport | None:
    """Let a crowd fill a round; None if another process is already at it.

    The lock is the database session's: it goes with whoever holds it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_CROWD_LOCK, round_id])
        (is_ours,) = cursor.fetchone()
        if not is_ours:
            return None
        try:
            round_ = Round.objects.get(pk=round_id)
            return run_crowd(round_, simulated_annotators(num_annotators), seed=seed)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_CROWD_LOCK, round_id])


def simulated_annotators(
    num_annotators: int, *, mix: Mapping[str, float] | None = None
) -> list[User]:
    """Return accounts of simulated annotators, made where they are missing.

    Args:
        num_annotators: How many.
        mix: Shares of the personas; default `DEFAULT_MIX`.

    Raises:
        ValueError: There is no such persona.
    """
    names = simulated_names(num_annotators, DEFAULT_MIX if mix is None else mix)
    found = {user.username: user for user in User.objects.filter(username__in=names)}
    missing = [
        NewUser(username=name, persona=persona)
        for name, persona in names.items()
        if name not in found
    ]
    services.create_users(users=missing)
    return list(User.objects.filter(username__in=names).order_by("pk"))


def run_crowd(
    round_: Round,
    annotators: Sequence[User],
    *,
    seed: int = 0,
    num_comparisons: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CrowdReport:
    """Let `annotators` work in an open round until its target is met or it closes.

    Each writes a prompt, or takes an imported item, judges the pair and goes on with the dialogue
    as far as the round allows, and is given pairs of others between two of their own. At the end
    everybody judges such pairs until none is left. Responses come from a worker of the sampling
    queue, as they do for people.

    Args:
        round_: The round.
        annotators: Accounts with a persona.
        seed: Seeds what they write and how they judge.
        num_comparisons: Stop after so many judgements, though the round wants more.
        on_progress: Told after each look how many are judged, and how many are wanted.

    Raises:
        CrowdStalledError: Responses stopped coming.
    """
    num_wanted = round_.target_comparisons if num_comparisons is None else num_comparisons
    return _Crowd(round_, annotators, seed, num_wanted, on_progress).work()


@dataclass
class _Seat:
    """One simulated annotator and what it is in the middle of."""

    user: User
    annotator: SimulatedAnnotator
    dialogue: Dialogue | None = None
    history: DialogueRecord | None = None
    """The dialogue so far, ending with a chosen response."""
    prompt: DialogueRecord | None = None
    """What is being answered."""


@dataclass
class _Crowd:
    """The loop: write, look for responses, judge."""

    round: Round
    users: Sequence[User]
    seed: int
    num_wanted: int
    on_progress: Callable[[int, int], None] | None
    num_judged: int = 0
    num_further: int = 0
    num_failed: int = 0
    service_seconds: float = 0.0

    def work(self) -> CrowdReport:
        started = last_response = time.monotonic()
        seats = self._take_seats()
        idle = list(seats)
        waiting: dict[int, _Seat] = {}
        while True:
            begun = time.monotonic()
            self._write(idle, waiting)
            if not waiting:
                break
            answered = _answered(waiting)
            for comparison in answered:
                seat = waiting.pop(comparison.pk)
                self._take_up(seat, comparison)
                idle.append(seat)
            self.service_seconds += time.monotonic() - begun
            if answered:
                last_response = time.monotonic()
                if self.on_progress is not None:
                    self.on_progress(self.num_judged, self.num_wanted)
                continue
            silence = time.monotonic() - last_response
            if silence > PATIENCE_SECONDS:
                raise CrowdStalledError(len(waiting), silence)
            time.sleep(LOOK_SECONDS)
        begun = time.monotonic()
        self._judge_what_is_left(seats)
        self.service_seconds += time.monotonic() - begun
        seconds = time.monotonic() - started
        return CrowdReport(
            self.num_judged, self.num_further, self.num_failed, seconds, self.service_seconds
        )

    def _take_seats(self) -> list[_Seat]:
        """Seat everybody; what an earlier crowd left open is closed, so that its slots are free.

        The streams of random numbers go on where the earlier crowd's began: no prompt comes twice.
        """
        mine = Dialogue.objects.filter(round=self.round, annotator__in=self.users)
        left_open = mine.filter(state=Dialogue.State.OPEN, item__isnull=True)
        for dialogue in left_open.select_related("annotator"):
            services.finish_dialogue(
                annotator=dialogue.annotator, dialogue=dialogue, reason=Comparison.SkipReason.OTHER
            )
        first = self.seed + 1_000_003 * mine.count()
        return [
            _Seat(user, SimulatedAnnotator(PERSONAS[user.persona], first + index))
            for index, user in enumerate(self.users)
        ]

    def _write(self, idle: list[_Seat], waiting: dict[int, _Seat]) -> None:
        """Let idle annotators write prompts, as many as the round has slots for."""
        if self.round.is_imported:
            self._take_items(idle, waiting)
            return
        num_left = self.num_wanted - self.num_judged - len(waiting)
        num_prompts = min(len(idle), num_left, _num_free(self.round)) if idle else 0
        try:
            for _ in range(num_prompts):
                comparison = self._write_prompt(idle[-1])
                waiting[comparison.pk] = idle.pop()
        except (RoundFullError, RoundClosedError) as error:
            logger.info("%s", error)  # others took the slots meanwhile
        if num_prompts > 0:
            dispatch.request_responses()

    def _take_items(self, idle: list[_Seat], waiting: dict[int, _Seat]) -> None:
        """Let idle annotators go on with their imported items, or take the next ones."""
        for seat in list(idle):
            if self.num_judged + len(waiting) >= self.num_wanted:
                break
            try:
                seat.dialogue = services.start_dialogue(
                    annotator=seat.user, round_=self.round, client_key=uuid.uuid4()
                )
            except (NoItemLeftError, RoundClosedError):
                continue
            comparison = Comparison.objects.live().get(dialogue=seat.dialogue)
            seat.prompt = prompt_of(comparison)
            waiting[comparison.pk] = seat
            idle.remove(seat)
        dispatch.request_responses()

    def _write_prompt(self, seat: _Seat) -> Comparison:
        if seat.dialogue is None:
            seat.dialogue = services.start_dialogue(
                annotator=seat.user, round_=self.round, client_key=uuid.uuid4()
            )
        if seat.history is None:
            seat.prompt = _first_prompt(seat.annotator, Axis(self.round.axis))
        else:
            seat.prompt = seat.history.followed_by(seat.annotator.follow_up(seat.history))
        return services.write_prompt(
            annotator=seat.user,
            dialogue=seat.dialogue,
            text=seat.prompt.turns[-1].text,
            client_key=uuid.uuid4(),
            risk_category=describe(seat.prompt).risk_category or "",
        )

    def _take_up(self, seat: _Seat, comparison: Comparison) -> None:
        """Judge a pair that is ready; begin another dialogue where there was no usable pair."""
        assert seat.dialogue is not None
        assert seat.prompt is not None
        if comparison.state == Comparison.State.FAILED:
            self.num_failed += 1
            services.finish_dialogue(annotator=seat.user, dialogue=seat.dialogue)
            seat.dialogue = seat.history = None
            return
        left, right = _samples_of(comparison)
        verdict = seat.annotator.judge(seat.prompt, left.text, right.text, Axis(self.round.axis))
        chosen = left if verdict.prefers_left else right
        services.submit_comparison(
            annotator=seat.user,
            comparison=comparison,
            chosen_sample_id=chosen.pk,
            rating=verdict.rating,
            safety_bin=verdict.safety_bin,
            client_key=uuid.uuid4(),
            active_seconds=ACTIVE_SECONDS,
        )
        self.num_judged += 1
        seat.history = seat.prompt.followed_by(chosen.text)
        if comparison.turn + 1 >= self.round.max_turns:
            seat.dialogue = seat.history = None
        if self.round.has_further:
            self._judge_further(seat)

    def _judge_further(self, seat: _Seat) -> bool:
        """Judge a pair that somebody else wrote the prompt of; False if there is none for them."""
        slot = services.claim_slot(annotator=seat.user, round_=self.round)
        if slot is None:
            return False
        pair = slot_pair_view(slot)
        verdict = seat.annotator.judge(pair.prompt, pair.left.text, pair.right.text, pair.axis)
        services.submit_slot(
            annotator=seat.user,
            slot=slot,
            chosen_sample_id=(pair.left if verdict.prefers_left else pair.right).sample_id,
            rating=verdict.rating,
            safety_bin=verdict.safety_bin,
            client_key=uuid.uuid4(),
            active_seconds=ACTIVE_SECONDS,
        )
        self.num_further += 1
        return True

    def _judge_what_is_left(self, seats: Sequence[_Seat]) -> None:
        """Let everybody judge further pairs until the round has none that is for one of them."""
        fields = ("state", "num_further", "num_further_judged")
        while True:
            state, wanted, judged = Round.objects.values_list(*fields).get(pk=self.round.pk)
            if state != Round.State.OPEN or judged >= wanted:
                return
            if sum(self._judge_further(seat) for seat in seats) == 0:
                return


def _num_free(round_: Round) -> int:
    """Return how many slots of the round are free; none once it is closed."""
    fields = ("state", "target_comparisons", "num_reserved")
    state, target, num_reserved = Round.objects.values_list(*fields).get(pk=round_.pk)
    return target - num_reserved if state == Round.State.OPEN else 0


def _answered(waiting: Mapping[int, _Seat]) -> list[Comparison]:
    """Return those comparisons that have their responses now, or will never have them."""
    ended = (Comparison.State.READY, Comparison.State.FAILED)
    rows = Comparison.objects.filter(pk__in=list(waiting), state__in=ended)
    return list(rows.prefetch_related("samples"))


def _samples_of(comparison: Comparison) -> tuple[Sample, Sample]:
    by_side = {sample.side: sample for sample in comparison.samples.all()}
    return by_side[Side.LEFT], by_side[Side.RIGHT]


def _first_prompt(annotator: SimulatedAnnotator, axis: Axis) -> DialogueRecord:
    """Return a prompt of one turn: in a round, the policies give the earlier responses."""
    while True:
        prompt = annotator.write_prompt(axis).dialogue
        if len(prompt.turns) == 1:
            return prompt


def simulated_names(num_annotators: int, mix: Mapping[str, float]) -> dict[str, str]:
    """Return user name to persona: whole people in proportions as near the mix as can be."""
    unknown = sorted(set(mix) - set(PERSONAS))
    if unknown:
        raise ValueError(f"personas {unknown} are not among {sorted(PERSONAS)}")
    total = sum(mix.values())
    numbers: Counter[str] = Counter()
    names: dict[str, str] = {}
    for size in range(1, num_annotators + 1):
        persona = max(mix, key=lambda name: mix[name] / total * size - numbers[name])
        numbers[persona] += 1
        names[f"simulated-{persona.replace('_', '-')}-{numbers[persona]}"] = persona
    return names
