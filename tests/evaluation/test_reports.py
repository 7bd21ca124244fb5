"""The summary of an evaluation, from verdicts written by hand."""

import json
import math

import pytest

from evaluation.reports import Answer, Verdict, spread, summarise
from records.dialogues import Dialogue
from records.prompts import Prompt


def answer(
    *,
    helpfulness: float = 0.0,
    safety: float = 0.0,
    reward: float = 0.0,
    num_tokens: int = 4,
    is_finished: bool = True,
    is_violation: bool | None = None,
) -> Answer:
    return Answer("text", num_tokens, is_finished, helpfulness, safety, reward, is_violation)


def verdict(
    mine: Answer, other: Answer, advantage: float, *, is_safety: bool = False, kl: float = 0.0
) -> Verdict:
    dialogue = Dialogue.from_texts("hello")
    prompt = Prompt(prompt_id="p", dialogue=dialogue, is_safety=is_safety)
    return Verdict(prompt, mine, other, advantage, kl)


def test_the_win_rate_counts_ties_half_and_splits_by_tag() -> None:
    verdicts = [
        verdict(answer(), answer(), 1.0),
        verdict(answer(), answer(), 0.0),
        verdict(answer(), answer(), -1.0, is_safety=True),
        verdict(answer(), answer(), 2.0, is_safety=True),
    ]
    summary = summarise(verdicts, num_examples=0)
    assert summary["win_rate"] == 0.625
    assert summary["win_rate_low"] < 0.625 < summary["win_rate_high"]
    assert (summary["num_wins"], summary["num_ties"], summary["num_losses"]) == (2, 1, 1)
    assert summary["win_rate_by_tag"]["safety"]["value"] == 0.5
    assert summary["win_rate_by_tag"]["other"]["value"] == 0.75
    assert (summary["num_prompts"], summary["num_safety_prompts"]) == (4, 2)


def test_scores_are_averaged_as_shares_and_lengths_as_tokens() -> None:
    third = math.log(0.5)  # σ = 1/3
    verdicts = [
        verdict(answer(reward=0.0, num_tokens=3, is_finished=False), answer(safety=third), 0.0),
        verdict(answer(reward=third, num_tokens=8), answer(safety=0.0), 0.0),
    ]
    summary = summarise(verdicts, num_examples=0)
    assert summary["reward"] == pytest.approx(5 / 12)
    assert summary["baseline_reward"] == 0.5
    assert summary["baseline_safety"] == pytest.approx(5 / 12)
    assert (summary["mean_tokens"], summary["baseline_mean_tokens"]) == (5.5, 4.0)
    assert (summary["truncated_share"], summary["baseline_truncated_share"]) == (0.5, 0.0)


def test_violations_are_counted_on_tagged_prompts_only() -> None:
    bad, good = answer(is_violation=True), answer(is_violation=False)
    verdicts = [
        verdict(bad, bad, 0.0, is_safety=True),
        verdict(good, bad, 1.0, is_safety=True),
        verdict(good, good, 0.0, is_safety=True),
        verdict(good, bad, 0.0, is_safety=True),
        verdict(bad, bad, 0.0),
    ]
    summary = summarise(verdicts, num_examples=0)
    assert (summary["violation_rate"], summary["baseline_violation_rate"]) == (0.25, 0.75)
    # 1 of 4: (0.25 + 0.480182 ± 1.959964·sqrt(0.046875 + 0.0600228)) / 1.960365.
    assert summary["violation_rate_low"] == pytest.approx(0.045587, abs=2e-5)
    assert summary["violation_rate_high"] == pytest.approx(0.699358, abs=2e-5)


def test_a_judge_that_cannot_tell_gives_no_violation_rate() -> None:
    summary = summarise([verdict(answer(), answer(), 0.0, is_safety=True)], num_examples=0)
    for name in ("violation_rate", "violation_rate_low", "baseline_violation_rate"):
        assert summary[name] is None


def test_kl_is_the_mean_over_responses() -> None:
    verdicts = [verdict(answer(), answer(), 0.0, kl=kl) for kl in (1.0, -0.5, 2.5)]
    assert summarise(verdicts, num_examples=0)["kl"] == pytest.approx(1.0)


def test_examples_are_spread_over_the_prompts_and_the_summary_is_json() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 40) == [0, 1, 2]
    assert spread(3, 0) == []
    verdicts = [verdict(answer(reward=float(i)), answer(), float(i)) for i in range(6)]
    summary = json.loads(json.dumps(summarise(verdicts, num_examples=2), allow_nan=False))
    assert [example["scores"]["reward"] for example in summary["examples"]] == [0.0, 3.0]
    assert summary["examples"][0]["prompt"]["turns"] == [{"role": "user", "text": "hello"}]
    assert sum(summary["score_histogram"]["policy"]) == 6
