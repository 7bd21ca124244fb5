"""Continuous batching: a fixed number of rows is kept full from a queue of responses to sample.

B rows being decoded, M some of them, S steps, U uniform numbers a token, V vocabulary.

Prompts are read as rows become free, once for all their responses; finished rows make room in
place. When nothing waits any more, the rows that are left move together.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from language.caches import Layout
from language.decoding import Decoder
from language.sampling import Settings, create_settings, uniform_numbers
from language.steps import Chunk, PlainSteps

STEPS_PER_CHUNK = 32
"""Steps between two readings of what was drawn, at most; a finished row is ahead by fewer."""
_ADMISSION_SHARE = 0.125
"""Waiting responses begin when this share of the rows is free: prompts are read together."""


class Wanted(NamedTuple):
    """One response to be sampled."""

    prompt: int
    """The prompt's number: responses with the same number share it."""
    prompt_ids: tuple[int, ...]
    response: int
    """Its number among the responses of its prompt."""
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


@dataclass
class SampledRow:
    """A response as far as it has been sampled."""

    wanted: Wanted
    place: int
    """Of its prompt in the cache."""
    start: int
    """Column of its first own token in the cache."""
    ids: list[int] = field(default_factory=list)
    logprobs: tuple[list[float], ...] = field(default_factory=lambda: ([], [], []))
    """Tempered, as sampled, untempered: as in `Draw`."""
    is_finished: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it has ended by itself or been cut."""
        return self.is_finished or len(self.ids) == self.wanted.max_new_tokens


class ContinuousBatch:
    """Samples `queue` in the rows of `steps`; responses of one prompt must be neighbours."""

    def __init__(self, decoder: Decoder, queue: Sequence[Wanted], steps: PlainSteps) -> None:
        self._decoder, self._queue, self._steps = decoder, deque(queue), steps
        self._cache, self._device = steps.cache, steps.device
        self._rows: list[SampledRow | None] = [None] * steps.num_rows
        self._settings: Settings
        self._waiting: tuple[int, int, Tensor] | None = None
        """Number, place and logits of a prompt of whose responses some have not begun."""

    def run(self, *, steps_per_look: int) -> Iterator[SampledRow]:
        """Sample everything; yield each response when it is known to be done.

        Finished rows are looked for every `steps_per_look` steps: looking waits for a GPU. Tokens
        drawn after a row's end are dropped: how many they are changes nothing.
        """
        step = 0
        while any(self._rows) or self._queue:
            if not any(self._rows):
                self._admit()
            if self._steps.num_drawn == STEPS_PER_CHUNK:
                yield from self._settle()
                self._begin_chunk()
            self._steps.draw()
            step += 1
            num_done = self._num_done() if step % steps_per_look == 0 else 0
            if num_done == len(self._rows):
                yield from self._settle()
                continue
            self._steps.decode()
            if self._queue and num_done >= _ADMISSION_SHARE * len(self._rows):
                yield from self._settle()
                self._admit()
            elif num_done >= self._steps.compaction_share * len(self._rows):
                yield from self._settle()
                self._compact()

    def _num_done(self) -> int:
        """Return how many rows are free or done."""
        num = self._steps.num_drawn
        if num >= self._steps_to_limit:
            cut = [
                row is not None and row.wanted.max_new_tokens - len(row.ids) <= num
                for row in self._rows
            ]
            self._steps.mark_done(cut)
            self._note_limit(num)
        return self._steps.count_done()

    def _note_limit(self, num_steps: int) -> None:
        """Note after how many steps of this chunk the next row is cut."""
        left = (row.wanted.max_new_tokens - len(row.ids) for row in self._rows if row is not None)
        self._steps_to_limit = min((n for n in left if n > num_steps), default=num_steps + 2**31)

    def _settle(self) -> Iterator[SampledRow]:
        """Hand the tokens drawn to their rows; free and yield the rows that are done."""
        if not self._steps.num_drawn:
            return
        ids, is_end, logprobs = self._steps.read()
        for index, row in enumerate(self._rows):
            if row is None:
                continue
            room = row.wanted.max_new_tokens - len(row.ids)
            num = min(len(ids[index]), room)
            if True in is_end[index][:num]:
                num, row.is_finished = is_end[index].index(True) + 1, True
            row.ids.extend(ids[index][:num])
            for known, new in zip(row.logprobs, logprobs, strict=True):
                known.extend(new[index][:num])
            if row.is_done:
                self._rows[index] = None
                yield row

    def _admit(self) -> None:
        """Begin as many waiting responses as there are free rows."""
        free = [index for index, row in enumerate(self._rows) if row is None]
        begun = [self._queue.popleft() for _ in range(min(len(free), len(self._queue)))]
        places, logits_MV = self._read_prompts(begun)
        for index, wanted, place in zip(free, begun, places, strict=False):
            self._rows[index] = SampledRow(wanted, place, self._cache.next_column)
        rows_M = torch.tensor(free[: len(begun)], device=self._device)
        self._steps.put_logits(rows_M, logits_MV)
        self._arrange()

    def _read_prompts(self, begun: Sequence[Wanted]) -> tuple[list[int], Tensor]:
        """Read the prompts of `begun` that are new; return each one's place and logits_MV."""
        numbers = [number for number, _ in groupby(begun, key=lambda wanted: wanted.prompt)]
        ids_of = {wanted.prompt: wanted.prompt_ids for wanted in begun}
        places: dict[int, int] = {}
        logits: list[Tensor] = []
        if self._waiting is not None and self._waiting[0] == numbers[0]:
            number, places[number], logits_1V = self._waiting
            logits.append(logits_1V)
        new = [number for number in numbers if number not in places]
        used = {row.place for row in self._rows if row is not None} | set(places.values())
        held, first = self._cache.prompts, 0
        room = held.make_room(used, [len(ids_of[number]) for number in new])
        places |= zip(new, room, strict=True)
        for lot in self._decoder.read_prompts([ids_of[number] for number in new]):
            of_lot = new[first : first + len(lot.lengths)]
            held.store(lot, [places[number] for number in of_lot])
            logits.append(lot.logits_NV)
            first += len(lot.lengths)
        logits_NV, last = torch.cat(logits), numbers[-1]
        has_more = bool(self._queue) and self._queue[0].prompt == last
        self._waiting = (last, places[last], logits_NV[-1:].clone()) if has_more else None
        order = {number: index for index, number in enumerate(numbers)}
        of_row_M = torch.tensor([order[wanted.prompt] for wanted in begun], device=self._device)
        return [places[wanted.prompt] for wanted in begun], logits_NV[of_row_M]

    def _compact(self) -> None:
        """Move the rows that are left together."""
        kept = [index for index, row in enumerate(self._rows) if row is not None]
        self._rows = [self._rows[index] for index in kept]
        live = [row for row in self._rows if row is not None]
        places = sorted({row.place for row in live})
        self._steps.keep(kept, places)
        for row in live:
            row.place = places.index(row.place)
        self._arrange()

    def _arrange(self) -> None:
        """Tell the cache and the sampler which rows are live now."""
        rows = self._rows
        moved = self._cache.arrange(
            Layout(
                [row.place if row else 0 for row in rows],
                [row.start if row else 0 for row in rows],
                [row is not None for row in rows],
            )
        )
        for row in rows:
            if row is not None:
                row.start -= moved
        self._settings = create_settings(
            [row.wanted.temperature if row else 1.0 for row in rows],
            [row.wanted.top_p if row else 1.0 for row in rows],
            device=self._device,
        )
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        """Set the rows' positions and draw the uniform numbers of the steps to come."""
        rows = self._rows
        numbers = uniform_numbers(
            [row.wanted.seed if row else 0 for row in rows],
            [row.wanted.response if row else 0 for row in rows],
            STEPS_PER_CHUNK,
            first_steps=[len(row.ids) if row else 0 for row in rows],
        )
        positions = [len(r.wanted.prompt_ids) + len(r.ids) if r else 0 for r in rows]
        self._steps.begin(
            Chunk(
                self._settings,
                position_B=torch.tensor(positions, device=self._device),
                is_done_B=torch.tensor([row is None for row in rows], device=self._device),
                uniforms_BSU=torch.from_numpy(numbers).to(self._device),
            )
        )
        self._note_limit(0)
