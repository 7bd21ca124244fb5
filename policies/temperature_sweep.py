"""The temperature sweep of rejection sampling: at which temperature the best of K is best.

arXiv:2307.09288, figure 8. The paper finds the temperature anew every round. Shapes: P prompts of
the sweep, K responses per prompt.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from language.distributed import barrier
from language.runs import RunContext
from policies.candidates import Candidate, Chunk, Sampler, prompts_per_chunk, read_chunk
from policies.chunks import StoredChunks, work_in_chunks
from policies.curves import curve_sizes, expected_best
from policies.encoding import EncodedPrompt
from policies.scoring import derived_seed
from records.files import write_json_atomically
from records.policy_configs import RejectionSamplingConfig
from records.rundirs import RunDirectory


class Tried(NamedTuple):
    """One temperature of the sweep."""

    temperature: float
    candidates: list[list[Candidate]]
    """K for each prompt of the sweep, the same prompts at every temperature."""


class Sweep(NamedTuple):
    """What is tried on what, in chunks of one temperature and some of the prompts."""

    sampler: Sampler
    prompts: Sequence[EncodedPrompt]
    """All the run's."""

    @property
    def temperatures(self) -> list[float]:
        """Those tried, the lowest first."""
        return sorted(self.sampler.config.sweep_temperatures)

    @property
    def num_chunks(self) -> int:
        """Chunks of all temperatures; 0 where nothing is tried."""
        return num_sweep_chunks(self.sampler.config, len(self.prompts))

    def try_chunk(self, number: int) -> tuple[Chunk, dict[str, float]]:
        """Return the candidates of a chunk, and its row of metrics.

        A prompt's seed is the same at every temperature: the draws are alike, and so the
        differences have less noise. It is not the seed of the candidates that are drawn later.
        """
        config, places = self.sampler.config, sweep_places(self.sampler.config, len(self.prompts))
        index, part = divmod(number, self.num_chunks // len(self.temperatures))
        first, temperature = part * prompts_per_chunk(config), self.temperatures[index]
        places = places[first : first + prompts_per_chunk(config)]
        seeds = [derived_seed(config.seed, "sweep", place) for place in places]
        sampler = self.sampler._replace(monitor=None)  # it chooses nothing here either
        groups, seconds = sampler.sample([self.prompts[p] for p in places], seeds, temperature)
        return Chunk(first, groups), {**_metrics(temperature, groups), **seconds}

    def tried(self, chunks: Sequence[Chunk]) -> list[Tried]:
        """Return the chunks by temperature."""
        size = self.num_chunks // len(self.temperatures)
        return [
            Tried(temperature, [g for c in chunks[i * size : (i + 1) * size] for g in c.candidates])
            for i, temperature in enumerate(self.temperatures)
        ]


def sweep_temperatures(
    sampler: Sampler,
    prompts: Sequence[EncodedPrompt],
    *,
    total_steps: int,
    run_directory: RunDirectory,
    context: RunContext,
) -> dict[str, Any]:
    """Return what the run's summary says of its temperature; `temperature` is the one to sample at.

    Where the config names several, each answers the prompts of the sweep, a chunk at a time, and
    the choice is written once, when all are done: a run that is started again, and every process,
    reads it from there.

    Raises:
        RunStopped: Someone asked the run to stop; finished chunks are kept.
        ValueError: No response ended by itself at any temperature.
    """
    sweep, config = Sweep(sampler, prompts), sampler.config
    if not sweep.num_chunks:
        return {"temperature": config.sampling.temperature}
    stored = StoredChunks(run_directory.checkpoints / "sweep")
    work_in_chunks(
        stored,
        sweep.num_chunks,
        sweep.try_chunk,
        total_steps=total_steps,
        run_directory=run_directory,
        context=context,
    )
    path = _choice_path(run_directory)
    if context.is_main and not path.exists():
        chunks = [read_chunk(stored.read(number)) for number in range(sweep.num_chunks)]
        write_json_atomically(path, choose_temperature(sweep.tried(chunks)))
    barrier()
    choice: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return choice


def sweep_places(config: RejectionSamplingConfig, num_prompts: int) -> list[int]:
    """Return the places of the prompts that are swept, spread evenly over all.

    Prompts may lie sorted by kind or by age: the first so many would be of one kind.
    """
    count = min(config.num_sweep_prompts, num_prompts)
    return [index * num_prompts // count for index in range(count)]


def num_sweep_chunks(config: RejectionSamplingConfig, num_prompts: int) -> int:
    """Return how many chunks the sweep has: steps of the run; 0 where nothing is tried."""
    count = min(config.num_sweep_prompts, num_prompts)
    return len(config.sweep_temperatures) * math.ceil(count / prompts_per_chunk(config))


def choose_temperature(tried: Sequence[Tried]) -> dict[str, Any]:
    """Return the temperature with the highest expected best of K, and the figures behind it.

    Of equals the lower is taken. What was cut off can never be selected, so it counts as the worst
    finished response to its prompt at any temperature: ending seldom is paid for, at every N, and
    all temperatures are compared on the same prompts. Prompts to which no response ended at any
    temperature tell nothing and are left out.

    Args:
        tried: The lowest temperature first.

    Raises:
        ValueError: No response ended by itself.
    """
    scores, num_left_out = _scores_by_temperature(tried)
    num_responses = scores[0].shape[1]
    bests = [expected_best(scores_PK, num_responses) for scores_PK in scores]
    means = [float(best_P.mean()) for best_P in bests]
    # max and index take the first of equals, which is the lowest temperature.
    chosen = means.index(max(means))
    second = max((i for i in range(len(means)) if i != chosen), key=lambda i: means[i])
    gain = _mean_with_error(bests[chosen] - bests[second])
    temperatures, num_prompts = [item.temperature for item in tried], len(bests[0])
    figures = [
        _figures(item, scores_PK, bests[chosen] - best_P)
        for item, scores_PK, best_P in zip(tried, scores, bests, strict=True)
    ]
    return {
        "temperature": temperatures[chosen],
        "sweep_note": _note(temperatures, chosen, second, gain, *scores[0].shape),
        "sweep": {
            "num_prompts": num_prompts,
            "num_without_finished": num_left_out,
            "num_responses": num_responses,
            "temperatures": figures,
        },
    }


def _scores_by_temperature(tried: Sequence[Tried]) -> tuple[list[Tensor], int]:
    """Return scores_PK of each temperature, the lowest first, and how many prompts are left out."""
    kept: list[list[list[float]]] = [[] for _ in tried]
    num_left_out = 0
    for groups in zip(*(item.candidates for item in tried), strict=True):
        finished = [c.score for group in groups for c in group if c.is_finished]
        if not finished:
            num_left_out += 1
            continue
        worst = min(finished)
        for rows, group in zip(kept, groups, strict=True):
            rows.append([c.score if c.is_finished else worst for c in group])
    if not kept[0]:
        raise ValueError(
            "sweep_temperatures: no response ended within sampling.max_new_tokens at any of "
            f"{[item.temperature for item in tried]}; allow longer ones or try lower temperatures"
        )
    return [torch.tensor(rows, dtype=torch.float64) for rows in kept], num_left_out


def _figures(item: Tried, scores_PK: Tensor, below_P: Tensor) -> dict[str, Any]:
    candidates = [candidate for group in item.candidates for candidate in group]
    curve = []
    for n in curve_sizes(scores_PK.shape[1]):
        best, error = _mean_with_error(expected_best(scores_PK, n))
        curve.append({"n": n, "max": best, "standard_error": error})
    below, error = _mean_with_error(below_P)
    return {
        "temperature": item.temperature,
        "curve": curve,
        "below_chosen": below,
        "below_chosen_standard_error": error,
        "finished_share": sum(c.is_finished for c in candidates) / len(candidates),
        "mean_tokens": fmean(len(c.ids) for c in candidates),
    }


def _mean_with_error(values_P: Tensor) -> tuple[float, float | None]:
    """Return the mean over prompts and its standard error, None where there is one prompt."""
    count = len(values_P)
    error = float(values_P.std()) / math.sqrt(count) if count > 1 else None
    return float(values_P.mean()), error


def _note(
    temperatures: Sequence[float],
    chosen: int,
    second: int,
    gain: tuple[float, float | None],
    num_prompts: int,
    num_responses: int,
) -> str:
    """Return in words how sure the choice of one of `temperatures` is, and whether to look further.

    The highest of several noisy means is likely one that chance has raised, so two standard errors
    are a low bar.
    """
    difference, error = gain
    best, next_best = f"{temperatures[chosen]:g}", f"{temperatures[second]:g}"
    words = f"The best of {num_responses} at {best} is {difference:.3g} above that at {next_best}, "
    words += f"the second best, on {num_prompts} "
    if error is None:
        words += "prompt, too few to say how sure that is."
    else:
        words += f"prompts, with a standard error of {error:.2g} (paired by prompt)"
        words += "." if difference > 2.0 * error else ": these do not tell the two apart."
    if chosen in (0, len(temperatures) - 1):
        end = "lowest" if chosen == 0 else "highest"
        words += f" {best} is the {end} temperature tried; try further ones."
    return words


def _metrics(temperature: float, groups: Sequence[Sequence[Candidate]]) -> Mapping[str, float]:
    """Return a row of metrics: means over the responses, and over each prompt's best finished."""
    candidates = [candidate for group in groups for candidate in group]
    count = len(candidates)
    finished = [[c.score for c in group if c.is_finished] for group in groups]
    bests = [max(scores) for scores in finished if scores]
    return {
        "sweep_temperature": temperature,
        "sweep_score": fmean(c.score for c in candidates),
        **({"sweep_best_score": fmean(bests)} if bests else {}),
        "sweep_finished_share": sum(c.is_finished for c in candidates) / count,
        "sweep_mean_tokens": fmean(len(c.ids) for c in candidates),
        "sweep_num_responses": count,
    }


def _choice_path(run_directory: RunDirectory) -> Path:
    return run_directory.checkpoints / "sweep.json"
