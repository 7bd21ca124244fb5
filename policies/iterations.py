"""One iteration of PPO: sample, score, look at it before any update, then one step a minibatch.

Shapes: B rows, M response tokens.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from language.engines import Engine
from language.scores import ScoreFn
from policies.encoding import EncodedPrompt
from policies.experience import Rewards, experience_of, rewards_of
from policies.networks import Networks
from policies.ppo_progress import Progress
from policies.rollouts import Rollout, groups_of, sample_rollout
from policies.scoring import Scores, score_rows
from policies.updates import Experience, Learners, UpdateMetrics, update_
from policies.views import Kept, View, is_view_kept, kept_view_of, logprobs_of, view_of
from records.policy_configs import PPOConfig


class Stopwatch:
    """Seconds of each phase of an iteration, under `seconds_<phase>`."""

    clock = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = self.clock()

    def lap(self, phase: str) -> None:
        """Book the time since the last lap to `phase`."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self.clock()
        self.laps[f"seconds_{phase}"] = round(now - self._last, 4)
        self._last = now


class Iteration(NamedTuple):
    """What an iteration did, and the progress with its scores counted."""

    rollout: Rollout
    scores: Scores
    view: View
    rewards: Rewards
    experience: Experience
    update: UpdateMetrics
    progress: Progress


def iterate_(
    engine: Engine,
    networks: Networks,
    learners: Learners,
    score_fn: ScoreFn,
    prompts: Sequence[EncodedPrompt],
    seeds: Sequence[int],
    progress: Progress,
    *,
    config: PPOConfig,
    eos_id: int,
    generator: torch.Generator,
    watch: Stopwatch,
) -> Iteration:
    """Let policy and value model learn from one response of `engine` to each of `prompts`.

    Raises:
        ServerError: The engine is a server that failed; says why.
        FloatingPointError: A score or a gradient is not finite; the weights are not to be kept.
    """
    temperature, units = config.sampling.temperature, networks.value_units(progress.units)

    # Sample one response to each prompt of the batch.
    rollout = sample_rollout(
        engine,
        prompts,
        seeds,
        sampling=config.sampling,
        eos_id=eos_id,
        rows_per_batch=config.rows_per_batch,
        device=networks.policy.device,
    )
    watch.lap("generate")

    # Score: helpfulness and safety, joined by the gate.
    scores = score_rows(
        score_fn, rollout.rows, rollout.is_safety, threshold=config.safety_threshold
    )
    progress = progress._replace(scores=progress.scores.after(scores.gated_B))
    watch.lap("score")

    # What reference, policy and value model say of the sampled tokens before any update.
    groups = groups_of(rollout, tokens=config.tokens_per_microbatch)
    reference_M = logprobs_of(networks.as_reference(), rollout, groups, temperature=temperature)
    watch.lap("reference")
    kept: Kept | None = None
    if is_view_kept(networks, rollout, config):
        (group,) = groups
        view, kept = kept_view_of(networks, rollout, group, temperature=temperature, units=units)
    else:
        view = view_of(networks, rollout, groups, temperature=temperature, units=units)
    watch.lap("logprobs")

    # Rewards per token, advantages, returns; then one gradient step per minibatch.
    rewards = rewards_of(rollout, scores.gated_B, view, reference_M, progress, config)
    experience = experience_of(rollout, view, rewards.rewards_BR, config, kept=kept)
    update = update_(
        networks, learners, experience, units=units, config=config, generator=generator
    )
    watch.lap("update")
    return Iteration(rollout, scores, view, rewards, experience, update, progress)
