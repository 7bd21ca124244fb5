"""A fixed number of rows, kept full from a queue: nothing about a response shows it."""

import random

import pytest
import torch

from language import batching, caches, generation
from language.generation import generate
from tests.language.asking import ENDS, EOS, largest_error, ragged_requests, request
from tests.models import tiny_policy


@pytest.mark.parametrize("rows_per_batch", [1, 3, 16])
def test_a_response_does_not_depend_on_its_batch(rows_per_batch: int) -> None:
    model, requests = tiny_policy(), ragged_requests()

    together = generate(model, requests, eos_ids=ENDS)
    apart = generate(model, requests[::-1], eos_ids=ENDS, rows_per_batch=rows_per_batch)[::-1]

    for first, second in zip(together, apart, strict=True):
        assert [response.ids for response in first] == [response.ids for response in second]


def test_free_rows_are_filled_from_the_queue_and_never_more_than_allowed() -> None:
    model = tiny_policy()
    rng = random.Random(5)
    requests = [request(1, 20 + i, max_new_tokens=rng.randrange(4, 40)) for i in range(80)]
    rows: list[int] = []

    def note(_module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        if args[0].dim() == 1:  # a step; prompts have two dimensions
            rows.append(len(args[0]))

    model.model.embed_tokens.register_forward_pre_hook(note)

    responses = generate(model, requests, eos_ids=[EOS], rows_per_batch=8)

    num_tokens = sum(len(response.ids) for (response,) in responses)
    steps = [num for num in rows if num == 8]
    assert max(rows) == 8
    assert len(steps) < 1.2 * num_tokens / 8 + 40, "batches one after the other take more"


def test_each_prompt_is_read_once_however_its_responses_begin() -> None:
    model, requests = tiny_policy(), ragged_requests()
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(len(kwargs["input_ids"])), with_kwargs=True
    )

    generate(model, requests, eos_ids=ENDS, rows_per_batch=3)

    assert sum(read) == len(requests)


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_how_often_draws_are_read_changes_nothing(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, requests = tiny_policy(), ragged_requests()
    usual = generate(model, requests, eos_ids=ENDS, rows_per_batch=6)

    monkeypatch.setattr(batching, "STEPS_PER_CHUNK", steps)
    monkeypatch.setattr(generation, "STEPS_PER_CHUNK", steps)
    responses = generate(model, requests, eos_ids=ENDS, rows_per_batch=6)

    assert [[r.ids for r in given] for given in responses] == [
        [r.ids for r in given] for given in usual
    ]


def test_columns_no_row_needs_any_more_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_COLUMNS", 4)
    model = tiny_policy()
    requests = [request(1, 20 + i, max_new_tokens=9 + i % 5) for i in range(40)]
    widths: list[int] = []
    advance = caches.Cache.advance

    def noted(cache: caches.Cache) -> None:
        advance(cache)
        widths.append(cache.next_column)

    monkeypatch.setattr(caches.Cache, "advance", noted)
    responses = generate(model, requests, eos_ids=[EOS], rows_per_batch=4)

    assert len(widths) > 90
    assert max(widths) < 40
    assert largest_error(model, requests, responses) < 1e-5


def test_looking_seldom_for_finished_rows_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, requests = tiny_policy(), ragged_requests()
    often = generate(model, requests, eos_ids=ENDS)

    monkeypatch.setattr(generation, "_steps_per_look", lambda _device: 8)

    assert [[r.ids for r in given] for given in generate(model, requests, eos_ids=ENDS)] == [
        [r.ids for r in given] for given in often
    ]
