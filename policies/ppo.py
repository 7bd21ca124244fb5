"""Proximal policy optimisation against the gated, whitened reward, in one loop.

Equations 3 and 4 of arXiv:2307.09288, section 3.2.3; what the paper leaves open follows Stiennon et
al. (arXiv:2009.01325) and is a field of `PPOConfig`. Shapes: B rows, R tokens of the longest
response, M response tokens of all rows.
"""

from itertools import islice

import torch

from language.runs import RunContext, RunStopped
from language.tokenizers import eos_id_of
from policies.alarms import Signs, alarm_row, alarms_of, heldout_alarms, signs_of
from policies.batches import shuffled_stream
from policies.encoding import EncodedPrompts, encode_prompts
from policies.heldout import HeldOutLook, look_at, objective_of
from policies.iterations import Stopwatch, iterate_
from policies.kl import next_kl_coef
from policies.phase_floors import measure_floors
from policies.ppo_models import Models, create_learners, load_models
from policies.ppo_progress import (
    Progress,
    publish_best,
    restore_progress,
    save_best,
    save_progress,
    save_value_model,
)
from policies.rollouts import Rollout
from policies.scoring import Scores, derived_seed
from policies.statistics import explained_variance, masked_moments
from policies.updates import Experience
from records.policy_configs import PPOConfig
from records.prompts import read_prompts
from records.rundirs import RunDirectory, RunSpec

_NOTHING_BETTER = (
    "no look at the held-out prompts was better than the one before training, so the output is the "
    "policy as it began; take more iterations or prompts, or another optimizer.learning_rate, and "
    "see whether heldout_reward rises while heldout_kl or unfinished responses cost more"
)


def ppo(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Improve `policy` on `prompts` and write the outputs `policy` (the best) and `value`.

    An iteration samples one response per prompt from the policy as it stands, scores it, takes the
    advantages from rewards and values, and makes one gradient step per minibatch. The run ends
    after `num_iterations`, or once `patience` looks at the held-out prompts brought nothing better.
    A run that is started again goes on from its last checkpoint as if it had never stopped.

    Several processes share what takes long: sampling, scoring, passes of the networks, and the rows
    of each minibatch. What that yields each process holds for the whole batch, so that rewards,
    whitening, advantages and alarms are computed as one process would.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: Different tokenizers, a model that cannot be cut, or no prompts.
        ServerError: The engine is a server that cannot be used, or failed; says why.
        FloatingPointError: A score or a gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, PPOConfig), f"{type(config).__name__} is another run's"

    # Models, prompts, optimizers; then the place where an earlier attempt stopped.
    models = load_models(spec, config, context, name=run_directory.root.name)
    networks, learners = models.networks, create_learners(models.networks, config)
    train = _prompts(spec, "prompts", models, config)
    heldout = _prompts(spec, "heldout_prompts", models, config)
    floors = measure_floors(spec, config, context, networks)
    progress = restore_progress(run_directory, networks, learners, context)
    if progress is None:
        look = look_at(models, heldout.prompts, config, 0)
        objective = objective_of(look, look.units, config)
        progress = Progress.begin(look, objective, config.kl_coef)
        save_best(run_directory, models, 0)
        row = _heldout_row(look, objective)
        context.log(0, total_steps=config.num_iterations, kl_coef=config.kl_coef, **row)
    stream = shuffled_stream(len(train.prompts), seed=derived_seed(config.seed, "prompts"))
    _ = list(islice(stream, progress.iteration * config.batch_size))  # those already used

    for iteration in range(progress.iteration + 1, config.num_iterations + 1):
        if progress.looks_without_better >= config.patience:
            break
        watch = Stopwatch()
        learning_rate, kl_coef = learners.policy.learning_rate, progress.kl_coef
        rollout, scores, view, rewards, experience, update, progress = iterate_(
            models.engine_after(iteration - 1),
            networks,
            learners,
            models.score_fn,
            [train.prompts[index] for index in islice(stream, config.batch_size)],
            [derived_seed(config.seed, iteration, row) for row in range(config.batch_size)],
            progress,
            config=config,
            eos_id=eos_id_of(models.tokenizer),
            generator=context.generator,
            watch=watch,
        )

        # What is remembered of it, and what looks wrong.
        signs = signs_of(rollout, view, rewards.kl, update.ratio_max_deviation)
        first = progress.first or signs
        alarms = alarms_of(signs, first, config.alarms)
        next_coef = next_kl_coef(kl_coef, rewards.kl, target=config.kl_target, gain=config.kl_gain)
        progress = progress._replace(iteration=iteration, first=first, kl_coef=next_coef)

        # Look at the held-out prompts; keep the policy if it is the best so far.
        heldout_row: dict[str, float] = {}
        if iteration % config.eval_every == 0 or iteration == config.num_iterations:
            look = look_at(models, heldout.prompts, config, iteration)
            objective = objective_of(look, progress.units, config)
            alarms |= heldout_alarms(look, progress.start, progress.peak, config.alarms)
            progress = progress.after(look, objective, iteration)
            if progress.best_iteration == iteration:
                save_best(run_directory, models, iteration)
            heldout_row = _heldout_row(look, objective)
            watch.lap("heldout")

        # Record.
        if iteration % config.log_every == 0 or heldout_row or alarms:
            context.log(
                iteration,
                total_steps=config.num_iterations,
                kl=rewards.kl,
                kl_coef=kl_coef,
                learning_rate=learning_rate,
                **_rollout_row(rollout, scores, signs),
                **_fit_row(experience),
                **update._asdict(),
                **heldout_row,
                **alarm_row(alarms, iteration),
                **watch.laps,
                **floors.shares(
                    rollout,
                    watch.laps,
                    num_epochs=config.num_epochs,
                    is_view_kept=experience.kept is not None,
                ),
            )
        must_stop = context.stop_requested
        is_due = iteration % config.checkpoint_every == 0 or iteration == config.num_iterations
        if is_due or must_stop:
            save_progress(run_directory, progress, networks, learners, context)
        if must_stop:
            raise RunStopped

    summary = {"networks": models.arrangement, **_summary(progress, config, train, heldout)}
    value_output = save_value_model(run_directory, models)
    if context.is_main:
        policy_output = publish_best(run_directory, progress)
        run_directory.write_result(summary, {"policy": policy_output, "value": value_output})


def _prompts(spec: RunSpec, role: str, models: Models, config: PPOConfig) -> EncodedPrompts:
    """Return the prompts of one input that leave room for a response."""
    room = models.networks.policy.config.max_position_embeddings - config.sampling.max_new_tokens
    encoded = encode_prompts(
        models.tokenizer, read_prompts(spec.inputs[role].path), max_tokens=room
    )
    if not encoded.prompts:
        raise ValueError(f"{role}: no prompt is left; skipped {dict(encoded.skipped)}")
    return encoded


def _rollout_row(rollout: Rollout, scores: Scores, signs: Signs) -> dict[str, float]:
    """Return what is known of the responses before anything is learned from them."""
    reward, variance = masked_moments(scores.gated_B, scores.gated_B.isfinite())
    return {
        "reward": reward,
        "reward_deviation": variance**0.5,
        "helpfulness": float(scores.helpfulness_B.mean()),
        "safety": float(scores.safety_B.mean()),
        "entropy": signs.entropy,
        "rollout_tokens": sum(row.num_tokens for row in rollout.rows),
        "mean_tokens": signs.mean_tokens,
        "finished_share": float(rollout.is_finished_B.float().mean()),
    }


def _fit_row(experience: Experience) -> dict[str, float | None]:
    """Return how well values foretold returns, and how far sampler and trainer disagree."""
    gap_M = (experience.logprobs_M - experience.rollout.sampler_logprobs_M).abs()
    every_M = torch.ones_like(gap_M, dtype=torch.bool)
    explained = explained_variance(experience.values_M, experience.returns_M, every_M)
    return {
        "explained_variance": explained,
        "sampler_gap_mean": float(gap_M.double().mean()),
        "sampler_gap_max": float(gap_M.max()),
    }


def _heldout_row(look: HeldOutLook, objective: float) -> dict[str, float]:
    row = {
        "heldout_reward": look.scores.mean,
        "heldout_helpfulness": look.helpfulness,
        "heldout_safety": look.safety,
        "heldout_kl": look.kl,
        "heldout_finished_share": look.finished_share,
        "heldout_surprise": look.surprise,
        "heldout_objective": objective,
    }
    general = look.general
    return row if general is None else {**row, "heldout_general": general}


def _summary(
    progress: Progress, config: PPOConfig, train: EncodedPrompts, heldout: EncodedPrompts
) -> dict[str, object]:
    is_unchanged = progress.best_iteration == 0
    return {
        **({"note": _NOTHING_BETTER} if is_unchanged else {}),
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
