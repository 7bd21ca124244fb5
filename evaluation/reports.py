"""The result of comparing a policy with a baseline: from one verdict per prompt to a summary."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from evaluation.winrates import win_rate
from records.prompts import Prompt
from records.statistics import score_histogram, sigmoid, wilson_proportion


class Answer(NamedTuple):
    """A policy's response to a prompt, with its raw scores."""

    text: str
    num_tokens: int
    """Its end token included."""
    is_finished: bool
    """False where it was cut at the length limit."""
    helpfulness: float
    safety: float
    reward: float
    """The gated score, logit(R_c)."""
    is_violation: bool | None
    """None where the judge cannot tell."""
    general: float | None = None
    """The general reward model's raw score, where there is one."""


class Verdict(NamedTuple):
    """What became of one prompt."""

    prompt: Prompt
    answer: Answer
    baseline_answer: Answer
    advantage: float
    """By how much the policy's answer is better, by the judge; 0 for a tie."""
    kl: float
    """The sum over the policy's answer of log π(token) - log π_0(token), in nats."""


def summarise(verdicts: Sequence[Verdict], *, num_examples: int) -> dict[str, Any]:
    """Return the summary of an evaluation, ready for JSON.

    `win_rate` is (wins + ties / 2) / prompts, with Wilson's 95% interval. `reward`, `helpfulness`,
    `safety` and `general` (None without a monitor) are means of σ(score), so in [0, 1]; `kl` is the
    mean in nats per response; violation rates are over the prompts tagged as safety prompts, None
    where the judge cannot tell.
    What is said of the policy is said of the baseline under the same key with `baseline_` before.
    """
    wins = win_rate([verdict.advantage for verdict in verdicts])
    tagged = [verdict for verdict in verdicts if verdict.prompt.is_safety]
    others = [verdict for verdict in verdicts if not verdict.prompt.is_safety]
    policy = _describe([verdict.answer for verdict in verdicts], [v.answer for v in tagged])
    baseline = _describe(
        [verdict.baseline_answer for verdict in verdicts], [v.baseline_answer for v in tagged]
    )
    return {
        "win_rate": wins.value,
        "win_rate_low": wins.low,
        "win_rate_high": wins.high,
        "num_wins": wins.num_wins,
        "num_ties": wins.num_ties,
        "num_losses": wins.num_losses,
        "win_rate_by_tag": {
            "safety": win_rate([verdict.advantage for verdict in tagged])._asdict(),
            "other": win_rate([verdict.advantage for verdict in others])._asdict(),
        },
        "kl": fmean(verdict.kl for verdict in verdicts),
        "num_prompts": len(verdicts),
        "num_safety_prompts": len(tagged),
        **policy,
        **{f"baseline_{name}": value for name, value in baseline.items()},
        "score_histogram": score_histogram(
            {
                "policy": [verdict.answer.reward for verdict in verdicts],
                "baseline": [verdict.baseline_answer.reward for verdict in verdicts],
            }
        ),
        "examples": [_example(verdicts[i]) for i in spread(len(verdicts), num_examples)],
    }


def spread(num_items: int, num_chosen: int) -> list[int]:
    """Return up to `num_chosen` indices spread evenly over `num_items`."""
    count = min(num_items, num_chosen)
    return [index * num_items // count for index in range(count)]


def _describe(answers: Sequence[Answer], tagged: Sequence[Answer]) -> dict[str, float | None]:
    violations = [answer.is_violation for answer in tagged if answer.is_violation is not None]
    rate = wilson_proportion(sum(violations), len(violations))
    general = [answer.general for answer in answers if answer.general is not None]
    return {
        "reward": fmean(sigmoid(answer.reward) for answer in answers),
        "helpfulness": fmean(sigmoid(answer.helpfulness) for answer in answers),
        "safety": fmean(sigmoid(answer.safety) for answer in answers),
        "general": fmean(map(sigmoid, general)) if general else None,
        "violation_rate": rate.value,
        "violation_rate_low": rate.low if violations else None,
        "violation_rate_high": rate.high if violations else None,
        "mean_tokens": fmean(answer.num_tokens for answer in answers),
        "truncated_share": fmean(not answer.is_finished for answer in answers),
    }


def _example(verdict: Verdict) -> dict[str, Any]:
    answer, baseline_answer = verdict.answer, verdict.baseline_answer
    return {
        "prompt": verdict.prompt.dialogue.to_json(),
        "is_safety": verdict.prompt.is_safety,
        "response": answer.text,
        "baseline_response": baseline_answer.text,
        "advantage": verdict.advantage,
        "scores": _scores_of(answer),
        "baseline_scores": _scores_of(baseline_answer),
    }


def _scores_of(answer: Answer) -> dict[str, float]:
    return {
        "helpfulness": answer.helpfulness,
        "safety": answer.safety,
        "reward": answer.reward,
    }
