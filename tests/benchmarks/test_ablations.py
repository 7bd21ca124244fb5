"""The ablations: what their arms differ in, and what is read from the figures of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.ablation_figures import (
    arm_figures,
    early_stop,
    first_alarms,
    pool_table,
    ppo_table,
    wins_by_kind,
)
from benchmarks.ablations import (
    AGAINST,
    AS_THE_DEMO,
    V1,
    WITH_POOL,
    WITHOUT_GATE,
    WITHOUT_KL,
    WITHOUT_POOL,
    AblationScale,
    arms,
    measure,
    untagged,
)
from language.scores import gated_score
from records.prompts import read_prompts, write_prompts
from records.run_configs import ModelShape
from records.statistics import Proportion
from simulation.corpus import sample_prompts
from workers.demo.scales import SandboxScale

SANDBOX = SandboxScale()
TINY = AblationScale(
    sandbox=SandboxScale(
        num_corpus_dialogues=400,
        num_demonstrations=40,
        num_helpfulness=(48, 0),
        num_safety=(32, 0),
        max_prompts=12,
        pretrain=replace(
            SANDBOX.pretrain,
            shape=ModelShape(hidden_size=32, intermediate_size=64, num_layers=2),
            vocabulary_size=512,
        ),
        rejection_sampling=replace(SANDBOX.rejection_sampling, num_responses=3),
        ppo=replace(SANDBOX.ppo, batch_size=8, minibatch_size=8),
    ),
    num_general_pairs=(40, 24),
    num_iterations=2,
    stage=1,
    num_held_out=8,
    num_judged=16,
    num_judged_by_kind=24,
)


def changes(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in other.items() if one[key] != value}


def test_arms_differ_in_what_their_names_say() -> None:
    demo, gate, kl = (
        arms(AblationScale())[name] for name in (AS_THE_DEMO, WITHOUT_GATE, WITHOUT_KL)
    )
    assert changes(demo.config.to_json(), gate.config.to_json()) == {"safety_threshold": 0.0}
    assert changes(demo.config.to_json(), kl.config.to_json()) == {"kl_coef": 0.0}
    assert (demo.is_tagged, gate.is_tagged, kl.is_tagged) == (True, False, True)
    assert set(changes(SANDBOX.ppo.to_json(), demo.config.to_json())) == {
        "num_iterations",
        "eval_every",
        "checkpoint_every",
        "patience",
        "num_threads",
        "device",
    }


def test_without_the_gate_the_safety_score_decides_nothing(tmp_path: Path) -> None:
    write_prompts(tmp_path / "tagged.jsonl", sample_prompts(1, 40, 0.5))
    write_prompts(tmp_path / "untagged.jsonl", untagged(sample_prompts(1, 40, 0.5)))
    tagged, bare = (
        list(read_prompts(tmp_path / f"{name}.jsonl")) for name in ("tagged", "untagged")
    )
    assert [p.dialogue for p in tagged] == [p.dialogue for p in bare]
    assert any(p.is_safety for p in tagged)
    helpfulness_B = torch.linspace(-5, 5, 40)
    safety_B = torch.linspace(-1e4, 1e4, 40)
    is_safety_B = torch.tensor([p.is_safety for p in bare])
    threshold = arms(TINY)[WITHOUT_GATE].config.safety_threshold
    assert torch.equal(gated_score(helpfulness_B, safety_B, is_safety_B, threshold), helpfulness_B)


@pytest.mark.parametrize(
    ("objectives", "stop"),
    [
        ([0.0, 1.0, 0.5, 0.9], 15),  # two looks without a better one
        ([0.0, 1.0, 0.5, 1.1, 1.0], None),  # a better one begins the count anew
        ([0.0, 0.0, 0.0], 10),  # an equal one is not better
        ([0.0, 1.0, 2.0], None),
        ([0.0], None),
    ],
)
def test_early_stop_counts_looks_without_a_better_one(
    objectives: list[float], stop: int | None
) -> None:
    looks = [(5 * index, value) for index, value in enumerate(objectives)]
    assert early_stop(looks, 2) == stop


def test_the_first_iteration_of_each_alarm_counts() -> None:
    rows = [
        {"step": 0},
        {"step": 1, "alarm_kl": 0.0, "alarm_monitor": 0.0},
        {"step": 2, "alarm_kl": 1.0, "alarm_monitor": 0.0},
        {"step": 3, "alarm_kl": 1.0, "alarm_monitor": 1.0},
    ]
    assert first_alarms(rows) == {"kl": 2, "monitor": 3}


def look(step: int, reward: float, general: float, **more: float) -> dict[str, float]:
    values = {"heldout_helpfulness": 0.1, "heldout_safety": 0.2, "heldout_kl": 0.5 * step}
    values["heldout_surprise"] = 0.4
    scores = {"heldout_reward": reward, "heldout_general": general, "heldout_objective": reward}
    return {"step": step, **values, **scores, **more}


def truth(win_rate: float) -> dict[str, Any]:
    rates = {"violation_rate": 0.2, "violation_rate_low": 0.15, "violation_rate_high": 0.25}
    return {
        "win_rate": win_rate,
        "win_rate_low": win_rate - 0.05,
        "win_rate_high": win_rate + 0.05,
        "num_prompts": 100,
        "num_safety_prompts": 50,
        **rates,
        **{f"baseline_{name}": 2 * value for name, value in rates.items()},
    }


def test_choices_of_reward_monitor_and_truth_are_told_apart() -> None:
    # The reward rises to the end; the monitor is highest at 10, the truth at 5.
    rows = [
        look(0, 0.0, 0.0),
        {"step": 1, "alarm_monitor": 0.0},
        look(5, 1.0, 0.5, alarm_monitor=0.0),
        look(10, 2.0, 0.7, alarm_monitor=0.0),
        look(15, 3.0, 0.1, alarm_monitor=1.0),
    ]
    summaries = {5: truth(0.75), 10: truth(0.7), 15: truth(0.4)}
    arm = arm_figures(rows, summaries, best_iteration=15, patience=2)
    assert [stage.iteration for stage in arm.stages] == [0, 5, 10, 15]
    assert arm.stages[0].wins.value == 0.5
    assert arm.stages[0].violations == Proportion(0.4, 0.3, 0.5, 50)
    assert arm.to_json()["peaks"] == {"reward": 15, "general": 10, "wins": 5}
    table = ppo_table({"one way": arm})
    assert table[2] == (
        "| one way | 0 | 0.00 | 0.10 | 0.20 | 0.00 | 0.00 | 0.40 | 50.0% (50.0 to 50.0) "
        "| 40.0% (30.0 to 50.0) |"
    )
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1
    assert table[-1] == (
        "one way: its own choice 15 (40.0% (35.0 to 45.0)), the reward's highest 15 (40.0% (35.0 "
        "to 45.0)), the monitor's highest 10 (70.0% (65.0 to 75.0)), the truth's 5 (75.0% (70.0 "
        "to 80.0)); no early stop; alarms: monitor at 15."
    )


def test_win_rates_are_told_by_kind_of_prompt() -> None:
    prompts = list(sample_prompts(3, 60, 0.5))
    examples = [
        {"prompt": prompt.dialogue.to_json(), "advantage": 1.0 if prompt.is_safety else -1.0}
        for prompt in prompts
    ]
    shares = wins_by_kind(examples)
    num_unsafe = sum(prompt.is_safety for prompt in prompts)
    assert shares["unsafe"].value == 1.0
    assert shares["unsafe"].n == num_unsafe
    assert all(
        share.value == 0.0 for kind, share in shares.items() if kind not in ("unsafe", "all")
    )
    assert shares["all"].value == num_unsafe / 60


def test_a_row_that_a_column_lacks_is_empty() -> None:
    half = Proportion(0.5, 0.25, 0.75, 8)
    table = pool_table({"V1": {"small_talk": half, "all": half}, "V2": {"all": half}})
    assert table == [
        "| prompts | V1 | V2 |",
        "| --- | --- | --- |",
        "| small talk | 50.0% (25.0 to 75.0) |  |",
        "| all | 50.0% (25.0 to 75.0) | 50.0% (25.0 to 75.0) |",
    ]


@pytest.mark.slow
def test_all_runs_of_a_tiny_scale_have_figures_and_are_not_done_twice(tmp_path: Path) -> None:
    figures = measure(tmp_path, TINY)
    assert set(figures.accuracy) == {"helpfulness", "safety", "general"}
    assert list(figures.ppo) == [AS_THE_DEMO, WITHOUT_GATE, WITHOUT_KL]
    for arm in figures.ppo.values():
        assert [stage.iteration for stage in arm.stages] == [0, 1, 2]
    judged = [stage.wins.n for arm in figures.ppo.values() for stage in arm.stages]
    assert set(judged) == {TINY.num_judged}
    # One SFT policy: the ways differ in what they optimise, and in nothing else at the start.
    starts = [arm.stages[0] for arm in figures.ppo.values()]
    assert starts[0] == starts[2]
    assert starts[1].reward == pytest.approx(starts[0].helpfulness, abs=1e-6)
    assert starts[0].reward != pytest.approx(starts[0].helpfulness, abs=1e-6)
    assert starts[1].general == starts[0].general
    assert list(figures.pool) == [V1, WITH_POOL, WITHOUT_POOL, AGAINST]
    assert all(column["all"].n == TINY.num_judged_by_kind for column in figures.pool.values())
    assert figures.selections[WITH_POOL]["share_from_pool"] > 0.0
    assert figures.selections[WITHOUT_POOL]["share_from_pool"] == 0.0

    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert measure(tmp_path, TINY) == figures
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == written
