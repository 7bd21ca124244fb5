"""Proximal policy optimisation against the gated, whitened reward, in one loop.

Equations 3 and 4 of arXiv:2307.09288, section 3.2.3; what the paper leaves open follows Stiennon et
al. (arXiv:2009.01325) and is a field of `PPOConfig`. Shapes: B rows, T tokens in a row.
"""

import time
from itertools import islice

import torch

from language.models import save_model
from language.runs import RunContext, RunStopped
from language.tokenizers import eos_id_of, pad_id_of
from policies.advantages import generalised_advantages
from policies.batches import shuffled_stream
from policies.encoding import EncodedPrompts, encode_prompts
from policies.heldout import HeldOutLook, look_at, objective_of
from policies.kl import kl_estimates
from policies.ppo_models import Models, create_learners, load_models
from policies.ppo_progress import (
    Progress,
    publish_best,
    restore_progress,
    save_best,
    save_progress,
)
from policies.rewards import final_scores, token_rewards
from policies.rollouts import logprobs_of, sample_rollout, values_of, view_of
from policies.scoring import derived_seed, score_rows
from policies.statistics import explained_variance, masked_mean, masked_moments, whiten
from policies.updates import Experience, update_
from records.configs import PPOConfig
from records.prompts import read_prompts
from records.rundirs import RunDirectory, RunSpec


def ppo(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Improve `policy` on `prompts` and write the outputs `policy` (the best) and `value`.

    An iteration samples one response per prompt from the policy as it stands, scores it, takes the
    advantages from rewards and values, and makes one gradient step per minibatch. The run ends
    after `num_iterations`, or once `patience` looks at the held-out prompts brought nothing better.
    A run that is started again goes on from its last checkpoint as if it had never stopped.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: More than one process, different tokenizers, or no prompts.
        FloatingPointError: A score or a gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, PPOConfig), f"{type(config).__name__} is another run's"
    if context.world_size > 1:
        raise ValueError(f"PPO runs in one process, not {context.world_size}; start only one")

    # Models, prompts, optimizers; then the place where an earlier attempt stopped.
    models = load_models(spec, config, context)
    tokenizer, policy, reference, value_model, score_fn = models
    train = _prompts(spec, "prompts", models, config)
    heldout = _prompts(spec, "heldout_prompts", models, config)
    learners = create_learners(models, config)
    policy_learner, value_learner = learners
    temperature, tokens = config.sampling.temperature, config.tokens_per_microbatch
    progress = restore_progress(run_directory, models, learners, context)
    if progress is None:
        look = look_at(policy, reference, tokenizer, score_fn, heldout.prompts, config)
        objective = objective_of(look, look.units, config)
        progress = Progress(0, look, look, objective, 0, 0)
        save_best(run_directory, models, 0)
        row = _heldout_row(look, objective)
        context.log(0, total_steps=config.num_iterations, kl_coef=config.kl_coef, **row)
    stream = shuffled_stream(len(train.prompts), seed=derived_seed(config.seed, "prompts"))
    _ = list(islice(stream, progress.iteration * config.batch_size))  # those already used

    for iteration in range(progress.iteration + 1, config.num_iterations + 1):
        if progress.looks_without_better >= config.patience:
            break
        watch = Stopwatch()

        # Sample one response to each prompt of the batch.
        rollout = sample_rollout(
            policy,
            [train.prompts[index] for index in islice(stream, config.batch_size)],
            [derived_seed(config.seed, iteration, row) for row in range(config.batch_size)],
            sampling=config.sampling,
            eos_id=eos_id_of(tokenizer),
            pad_id=pad_id_of(tokenizer),
            rows_per_batch=config.rows_per_batch,
        )
        mask_BT = rollout.batch.response_mask_BT
        watch.lap("generate")

        # Score: helpfulness and safety, joined by the gate.
        scores = score_rows(
            score_fn, rollout.rows, rollout.is_safety, threshold=config.safety_threshold
        )
        watch.lap("score")

        # What policy, reference and value model say of the sampled tokens before any update.
        old = view_of(policy, rollout, temperature=temperature, tokens=tokens)
        reference_BT = logprobs_of(reference, rollout, temperature=temperature, tokens=tokens)
        units = progress.units
        values_BT = values_of(value_model, rollout, units=units, tokens=tokens)
        watch.lap("logprobs")

        # Rewards per token, advantages, returns.
        kl_BT = kl_estimates(old.logprobs_BT, reference_BT, config.kl_estimator)
        final_B = final_scores(
            scores.gated_B, rollout.is_finished_B, truncation_penalty=config.truncation_penalty
        )
        rewards_BT = token_rewards(
            final_B.to(context.device), kl_BT, mask_BT, kl_coef=config.kl_coef
        )
        advantages_BT, returns_BT = generalised_advantages(
            rewards_BT, values_BT, mask_BT, gamma=config.gamma, gae_lambda=config.gae_lambda
        )
        experience = Experience(
            rollout, old.logprobs_BT, values_BT, whiten(advantages_BT, mask_BT), returns_BT
        )

        # Update: one step per minibatch.
        learning_rate = policy_learner.learning_rate
        update = update_(
            policy,
            policy_learner,
            value_model,
            value_learner,
            experience,
            units=units,
            config=config,
            generator=context.generator,
        )
        watch.lap("update")

        # Look at the held-out prompts; keep the policy if it is the best so far.
        progress = progress._replace(iteration=iteration)
        heldout_row: dict[str, float] = {}
        if iteration % config.eval_every == 0 or iteration == config.num_iterations:
            look = look_at(policy, reference, tokenizer, score_fn, heldout.prompts, config)
            objective = objective_of(look, units, config)
            progress = progress.after(look, objective, iteration)
            if progress.best_iteration == iteration:
                save_best(run_directory, models, iteration)
            heldout_row = _heldout_row(look, objective)
            watch.lap("heldout")

        # Record.
        if iteration % config.log_every == 0 or heldout_row:
            gap_BT = (old.logprobs_BT - rollout.sampler_logprobs_BT).abs()
            reward, variance = masked_moments(scores.gated_B, scores.gated_B.isfinite())
            context.log(
                iteration,
                total_steps=config.num_iterations,
                reward=reward,
                reward_deviation=variance**0.5,
                helpfulness=float(scores.helpfulness_B.mean()),
                safety=float(scores.safety_B.mean()),
                kl=float(kl_BT.sum(dim=1).mean()),
                kl_coef=config.kl_coef,
                entropy=masked_mean(old.entropies_BT, mask_BT),
                mean_tokens=float(mask_BT.sum(dim=1).float().mean()),
                finished_share=float(rollout.is_finished_B.float().mean()),
                explained_variance=explained_variance(values_BT, returns_BT, mask_BT),
                sampler_gap_mean=masked_mean(gap_BT, mask_BT),
                sampler_gap_max=float(gap_BT.max()),
                learning_rate=learning_rate,
                **update._asdict(),
                **heldout_row,
                **watch.laps,
            )
        must_stop = context.stop_requested
        is_due = iteration % config.checkpoint_every == 0 or iteration == config.num_iterations
        if is_due or must_stop:
            save_progress(run_directory, progress, models, learners, context)
        if must_stop:
            raise RunStopped

    summary = _summary(progress, config, train, heldout)
    value_output = run_directory.outputs / "value"
    save_model(value_model, tokenizer, value_output)
    policy_output = publish_best(run_directory, progress)
    run_directory.write_result(summary, {"policy": policy_output, "value": value_output})


class Stopwatch:
    """Seconds of each phase of an iteration, under `seconds_<phase>`."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Book the time since the last lap to `phase`."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.laps[f"seconds_{phase}"] = round(now - self._last, 4)
        self._last = now


def _prompts(spec: RunSpec, role: str, models: Models, config: PPOConfig) -> EncodedPrompts:
    """Return the prompts of one input that leave room for a response."""
    room = models.policy.config.max_position_embeddings - config.sampling.max_new_tokens
    encoded = encode_prompts(
        models.tokenizer, read_prompts(spec.inputs[role].path), max_tokens=room
    )
    if not encoded.prompts:
        raise ValueError(f"{role}: no prompt is left; skipped {dict(encoded.skipped)}")
    return encoded


def _heldout_row(look: HeldOutLook, objective: float) -> dict[str, float]:
    return {
        "heldout_reward": look.scores.mean,
        "heldout_kl": look.kl,
        "heldout_finished_share": look.finished_share,
        "heldout_objective": objective,
    }


def _summary(
    progress: Progress, config: PPOConfig, train: EncodedPrompts, heldout: EncodedPrompts
) -> dict[str, object]:
    return {
        "best_iteration": progress.best_iteration,
        "best_objective": progress.best_objective,
        "heldout_reward": progress.best.scores.mean,
        "heldout_kl": progress.best.kl,
        "heldout_finished_share": progress.best.finished_share,
        "start_heldout_reward": progress.start.scores.mean,
        "start_heldout_kl": progress.start.kl,
        "num_iterations": progress.iteration,
        "is_stopped_early": progress.iteration < config.num_iterations,
        "num_prompts": len(train.prompts),
        "num_heldout_prompts": len(heldout.prompts),
        "num_shortened": train.num_shortened + heldout.num_shortened,
        "skipped": dict(train.skipped + heldout.skipped),
    }
