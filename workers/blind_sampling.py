"""Single responses for blind checks: drawn as those for annotators are, after them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.conf import settings

from annotation import services
from annotation.services import BlindJob
from workers import sampling
from workers.alive import worker_name


def sample_waiting_pairs() -> int:
    """Draw the response of every pair that waits, until none waits; return how many.

    People who annotate come first: between two batches whatever they wait for is drawn.
    """
    worker = worker_name()
    num_sampled = 0
    while jobs := services.claim_blind_pairs(limit=settings.SAMPLING_ROWS, worker=worker):
        by_policy: dict[Path, list[BlindJob]] = {}
        for job in jobs:
            by_policy.setdefault(job.request.path, []).append(job)
        ids = [job.pair_id for job in jobs]
        beat = partial(services.beat_blind_pairs, pair_ids=ids, worker=worker)
        renew = sampling.renewing(beat)
        for path, own in by_policy.items():
            _draw(path, own, worker, renew)
        num_sampled += len(jobs)
        sampling.sample_waiting_comparisons()
    return num_sampled


def _draw(path: Path, jobs: list[BlindJob], worker: str, renew: Callable[[int, int], None]) -> None:
    drawn = sampling.draw_or_explain(path, [(job.prompt, job.request) for job in jobs], renew)
    for job, response in zip(jobs, drawn, strict=True):
        if isinstance(response, str):
            services.fail_blind_pair(pair_id=job.pair_id, worker=worker, error=response)
        else:
            services.store_blind_response(pair_id=job.pair_id, sample=response)
