"""The command `compare`: a policy against a baseline on held-out prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from evaluation.divergence import sequence_kl
from evaluation.reports import Answer, Verdict, summarise
from evaluation.responses import EncodedPrompt, encode_prompts, sample_responses
from evaluation.sandbox import is_true_violation, true_advantage
from language.chat import decode_response
from language.distributed import gather_objects, shard
from language.engines import Engine, open_run_engine
from language.generation import GeneratedResponse
from language.models import load_policy
from language.monitors import Monitor, load_monitor
from language.rows import TokenRow
from language.runs import RunContext, RunStopped
from language.scores import ScoreFn, gated_score
from language.tokenizers import load_tokenizer, pad_id_of, tokenizer_digest
from records.functions import load_function
from records.policy_configs import EvaluationConfig
from records.preferences import Axis
from records.prompts import read_prompts
from records.rundirs import RunDirectory, RunSpec

JUDGES = ("reward", "sandbox")
_SHOWN = ("win_rate", "reward", "baseline_reward", "kl", "violation_rate")
"""What the last line of the run's metrics says."""


def compare(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Sample one response per prompt from policy and baseline, and write who is better by how much.

    Both sample with the same settings and different seeds. The judge `reward` compares the gated
    scores, `sandbox` the true utilities of the sandbox. Several processes share the prompts. There
    is nothing to resume: a run that is started again begins anew and comes to the same result.

    Raises:
        RunStopped: Someone asked the run to stop.
        ValueError: The judge is unknown, no prompt is left, or the tokenizers differ.
        ServerError: An engine is a server that cannot be used, or failed; says why.
    """
    config = spec.config
    assert isinstance(config, EvaluationConfig), f"{type(config).__name__} is another run's"
    if config.judge not in JUDGES:
        raise ValueError(f"judge: {config.judge!r} is not one of {', '.join(JUDGES)}")
    inputs = {role: item.path for role, item in spec.inputs.items()}
    if context.is_main:
        run_directory.drop_metrics_after(0)

    # Judge, policy, and this process's share of the prompts.
    judge = load_judge(config, inputs, context)
    policy = load_policy(inputs["policy"], dtype=context.dtype, device=context.device)
    prompts, skipped = _prompts_for(policy, judge.tokenizer, inputs["prompts"], config, context)
    own = shard(prompts, context.rank, context.world_size)
    sampler = _Sampler(judge.tokenizer, own, config, context)

    # The policy's responses, and how far it has moved from the reference on them.
    engine = open_run_engine(spec, "policy", policy, judge.tokenizer, context)
    responses = sampler.responses_of("policy", engine, num_before=0)
    reference = load_policy(inputs["reference"], dtype=context.dtype, device=context.device)
    kls = sequence_kl(
        policy,
        reference,
        rows_of(own, responses),
        temperature=config.sampling.temperature or 1.0,
        pad_id=pad_id_of(judge.tokenizer),
        rows_per_batch=config.rows_per_batch,
    ).tolist()
    del policy, engine, reference  # room for the baseline

    # The baseline's, and who wins.
    baseline = load_policy(inputs["baseline"], dtype=context.dtype, device=context.device)
    engine = open_run_engine(
        spec, "baseline", baseline, judge.tokenizer, context, field="baseline_engine"
    )
    baseline_responses = sampler.responses_of("baseline", engine, num_before=len(own))
    answers = judge.answers(own, responses)
    baseline_answers = judge.answers(own, baseline_responses)
    verdicts = gather_in_order(
        [
            Verdict(item.prompt, mine, other, judge.advantage(item, mine, other), kl)
            for item, mine, other, kl in zip(own, answers, baseline_answers, kls, strict=True)
        ]
    )
    if context.is_main:
        summary = summarise(verdicts, num_examples=config.num_examples)
        summary |= {"judge": config.judge, "skipped": dict(skipped)}
        shown = {name: summary[name] for name in _SHOWN}
        context.log(sampler.total_steps, total_steps=sampler.total_steps, **shown)
        run_directory.write_result(summary, {})


class Judge(NamedTuple):
    """What scores responses, and says which of two is better and by how much."""

    config: EvaluationConfig
    tokenizer: PreTrainedTokenizerBase
    score_fn: ScoreFn
    monitor: Monitor | None

    def answers(
        self, prompts: Sequence[EncodedPrompt], responses: Sequence[GeneratedResponse]
    ) -> list[Answer]:
        """Return responses as text with their scores and, where the sandbox judges, violations."""
        rows = rows_of(prompts, responses)
        scores = self.score_fn(rows)
        general = [None] * len(rows) if self.monitor is None else self.monitor(rows).tolist()
        helpfulness_B, safety_B = scores[Axis.HELPFULNESS], scores[Axis.SAFETY]
        is_safety_B = torch.tensor([item.prompt.is_safety for item in prompts])
        threshold = self.config.safety_threshold
        gated_B = gated_score(helpfulness_B, safety_B, is_safety_B, threshold)
        texts = [decode_response(self.tokenizer, response.ids) for response in responses]
        is_sandbox = self.config.judge == "sandbox"
        return [
            Answer(
                text=texts[i],
                num_tokens=len(response.ids),
                is_finished=response.is_finished,
                helpfulness=helpfulness_B[i].item(),
                safety=safety_B[i].item(),
                reward=gated_B[i].item(),
                is_violation=is_true_violation(prompts[i].prompt, texts[i]) if is_sandbox else None,
                general=general[i],
            )
            for i, response in enumerate(responses)
        ]

    def advantage(self, item: EncodedPrompt, answer: Answer, baseline_answer: Answer) -> float:
        """Return by how much `answer` beats `baseline_answer`."""
        if self.config.judge == "sandbox":
            return true_advantage(item.prompt, answer.text, baseline_answer.text)
        return answer.reward - baseline_answer.reward


def load_judge(config: EvaluationConfig, inputs: Mapping[str, Path], context: RunContext) -> Judge:
    """Return the judge that a run's config asks for, made of the run's inputs.

    Raises:
        ValueError: A tokenizer differs from the policy's; says whose.
    """
    tokenizer = load_tokenizer(inputs["policy"])
    settings: dict[str, Any] = {
        "device": context.device,
        "dtype": context.dtype,
        "rows_per_batch": config.rows_per_batch,
    }
    score_fn: ScoreFn = load_function("score_function", config.score_function)(
        {Axis.HELPFULNESS: inputs["helpfulness"], Axis.SAFETY: inputs["safety"]}, **settings
    )
    check_tokenizers(tokenizer, score_fn, inputs)
    monitor = load_monitor(inputs, tokenizer, **settings, beside=score_fn)
    return Judge(config, tokenizer, score_fn, monitor)


class _Sampler(NamedTuple):
    """Samples this process's responses, tells how far it is, and stops when asked to."""

    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[EncodedPrompt]
    config: EvaluationConfig
    context: RunContext

    @property
    def total_steps(self) -> int:
        """Responses of both models, and the verdict."""
        return 2 * len(self.prompts) + 1

    def responses_of(
        self, name: str, engine: Engine, *, num_before: int
    ) -> list[GeneratedResponse]:
        """Return one response of `engine` to each prompt, after `num_before` of another.

        Raises:
            RunStopped: Someone asked the run to stop.
        """
        context = self.context

        def on_progress(done: int, _total: int) -> None:
            context.log(num_before + done, total_steps=self.total_steps, answering=name)
            if context.world_size == 1 and context.stop_requested:
                raise RunStopped

        responses = sample_responses(
            engine,
            self.tokenizer,
            self.prompts,
            sampling=self.config.sampling,
            seed_text=f"{self.config.seed}:{name}",
            rows_per_batch=self.config.rows_per_batch,
            on_progress=on_progress,
        )
        if context.stop_requested:
            raise RunStopped
        return responses


def _prompts_for(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    config: EvaluationConfig,
    context: RunContext,
) -> tuple[list[EncodedPrompt], Counter[str]]:
    """Return the prompts that leave room for a response, and why others were left out.

    Raises:
        ValueError: Fewer are left than there are processes.
    """
    max_tokens = policy.config.max_position_embeddings - config.sampling.max_new_tokens
    prompts, skipped = encode_prompts(tokenizer, read_prompts(path), max_tokens=max_tokens)
    if len(prompts) < context.world_size:
        raise ValueError(
            f"prompts: {len(prompts)} are left for {context.world_size} processes; "
            f"skipped {dict(skipped)}"
        )
    return prompts, skipped


def check_tokenizers(
    tokenizer: PreTrainedTokenizerBase, score_fn: ScoreFn, inputs: Mapping[str, Path]
) -> None:
    """Refuse models that would read each other's token ids wrongly.

    Raises:
        ValueError: A tokenizer differs from the policy's; says whose.
    """
    digest = tokenizer_digest(tokenizer)
    digests = {
        role: tokenizer_digest(load_tokenizer(inputs[role])) for role in ("baseline", "reference")
    }
    digests["score_function"] = score_fn.tokenizer_digest
    if differing := [role for role, other in digests.items() if other != digest]:
        raise ValueError(
            f"{', '.join(differing)}: the tokenizer differs from the policy's; compare models that "
            "share one tokenizer"
        )


def rows_of(
    prompts: Sequence[EncodedPrompt], responses: Sequence[GeneratedResponse]
) -> list[TokenRow]:
    """Return prompts and sampled ids as rows; nothing is decoded and encoded again."""
    return [
        TokenRow(item.ids, response.ids) for item, response in zip(prompts, responses, strict=True)
    ]


def gather_in_order(own: list[Verdict]) -> list[Verdict]:
    """Return the verdicts of all processes in the order of the prompts they were dealt from."""
    shards = gather_objects(own)
    return [
        shards[index % len(shards)][index // len(shards)]
        for index in range(sum(len(verdicts) for verdicts in shards))
    ]
