"""Alarms: each is raised past its threshold and only there, and says what to do."""

import json
import logging
from dataclasses import replace

import pytest

from policies.alarms import NAMES, Peak, Signs, alarm_row, alarms_of, heldout_alarms, peak_after
from policies.heldout import HeldOutLook
from policies.statistics import Moments
from records.ppo_choices import AlarmConfig

CONFIG = AlarmConfig(
    kl=10.0,
    entropy_share=0.25,
    length_ratio=2.0,
    ratio_deviation=0.01,
    monitor_drop=0.5,
    surprise_rise=0.1,
    standard_errors=2.0,
)
FIRST = Signs(kl=0.0, entropy=2.0, mean_tokens=30.0, ratio_max_deviation=1e-6)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        (FIRST, set()),
        (FIRST._replace(kl=10.0), set()),
        (FIRST._replace(kl=10.1), {"kl"}),
        (FIRST._replace(entropy=0.5), set()),
        (FIRST._replace(entropy=0.49), {"entropy"}),
        (FIRST._replace(mean_tokens=60.0), set()),
        (FIRST._replace(mean_tokens=61.0), {"length"}),
        (FIRST._replace(mean_tokens=14.0), {"length"}),
        (FIRST._replace(ratio_max_deviation=0.02), {"ratio"}),
        (Signs(99.0, 0.0, 1.0, 1.0), {"kl", "entropy", "length", "ratio"}),
    ],
)
def test_an_alarm_is_raised_past_its_threshold(signs: Signs, expected: set[str]) -> None:
    assert set(alarms_of(signs, FIRST, CONFIG)) == expected


def test_zero_turns_every_alarm_off() -> None:
    off = AlarmConfig(
        kl=0.0,
        entropy_share=0.0,
        length_ratio=0.0,
        ratio_deviation=0.0,
        monitor_drop=0.0,
        surprise_rise=0.0,
    )
    assert alarms_of(Signs(99.0, 0.0, 1.0, 1.0), FIRST, off) == {}
    peak = Peak(general_scores=(8.0, 9.0), reward=0.0)
    bad = look(9.0, general=(-9.0, -8.0), surprises=(7.0, 8.0))
    start = look(0.0, general=(0.0, 1.0), surprises=(1.0, 1.5))
    assert heldout_alarms(bad, start, peak, off) == {}
    assert set(heldout_alarms(bad, start, peak, CONFIG)) == {"monitor", "surprise"}


def test_the_words_name_the_setting_to_change() -> None:
    alarms = alarms_of(Signs(99.0, 0.0, 1.0, 1.0), FIRST, CONFIG)
    settings = {"kl": "kl_coef", "length": "truncation_penalty", "ratio": "alarms.ratio_deviation"}
    for name, setting in settings.items():
        assert setting in alarms[name]


def look(
    reward: float,
    general: tuple[float, ...] | None = None,
    surprises: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
) -> HeldOutLook:
    return HeldOutLook(Moments(reward, 1.0), 0.0, 1.0, surprises=surprises, general_scores=general)


# Before training the monitor's scores deviate by 2, so a fall of more than 1 is large enough.
START = look(0.0, general=(0.0, 4.0, 0.0, 4.0))
PEAK = Peak(general_scores=(1.0, 5.0, 2.0, 4.0), reward=1.0)  # mean 3


@pytest.mark.parametrize(
    ("reward", "general", "is_raised"),
    [
        # Falls of 2, 1, 2 and 1: mean 1.5, deviation 0.577, error 0.289, so 5.2 errors.
        (2.0, (-1.0, 4.0, 0.0, 3.0), True),
        # The same, and the reward fell too: a bad policy, but not a gamed reward.
        (0.9, (-1.0, 4.0, 0.0, 3.0), False),
        # Falls of 1, 0.8, 1 and 0.8: 15.6 errors, but 0.45 deviations.
        (2.0, (0.0, 4.2, 1.0, 3.2), False),
        # Falls of 6, 0, 0 and 0: mean 1.5, deviation 3, error 1.5, so 1 error: it may be chance.
        (2.0, (-5.0, 5.0, 2.0, 4.0), False),
        # Nobody watches.
        (2.0, None, False),
    ],
)
def test_the_monitor_falls_while_the_reward_rises(
    reward: float, general: tuple[float, ...] | None, is_raised: bool
) -> None:
    found = heldout_alarms(look(reward, general), START, PEAK, CONFIG)
    assert set(found) == ({"monitor"} if is_raised else set())
    assert not is_raised or "from 3 to 1.5 (5.2 standard errors)" in found["monitor"]


@pytest.mark.parametrize(
    ("reward", "surprises", "is_raised"),
    [
        # From 1 nat a token; rises of 0.1, 0.3, 0.1 and 0.3: mean 0.2, error 0.0577, 3.5 errors.
        (1.0, (1.1, 1.3, 1.1, 1.3), True),
        # The same, at a reward that is no higher: nothing was gained by it.
        (0.0, (1.1, 1.3, 1.1, 1.3), False),
        # Rises of 0.08, 0.1, 0.08 and 0.1: 15.6 errors, but less than a tenth.
        (1.0, (1.08, 1.1, 1.08, 1.1), False),
        # Rises of 0.8, 0, 0 and 0: 1 error.
        (1.0, (1.8, 1.0, 1.0, 1.0), False),
        # The policy prefers what the reference finds likely: however far it goes, no surprise.
        (9.0, (0.1, 0.2, 0.1, 0.2), False),
    ],
)
def test_responses_surprise_the_reference_while_the_reward_rises(
    reward: float, surprises: tuple[float, ...], is_raised: bool
) -> None:
    found = heldout_alarms(look(reward, surprises=surprises), look(0.0), None, CONFIG)
    assert set(found) == ({"surprise"} if is_raised else set())
    assert not is_raised or "by 1.2 nats a token, before training by 1 (3.5" in found["surprise"]


def test_the_peak_is_the_first_look_that_the_monitor_liked_best() -> None:
    peak = None
    for reward, general in ((0.0, 1.0), (1.0, 1.5), (2.0, 1.5), (3.0, 0.2)):
        peak = peak_after(peak, look(reward, (general - 0.5, general + 0.5)))
    assert peak == Peak(general_scores=(1.0, 2.0), reward=1.0)
    assert peak.general == 1.5
    assert peak_after(None, look(1.0, None)) is None


def test_a_look_is_read_back_as_it_was_written() -> None:
    for seen in (START, look(0.5, None, (0.1, 0.25))):
        assert HeldOutLook.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_a_row_has_every_alarm_as_a_number_and_the_words_as_an_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alarms = alarms_of(FIRST._replace(kl=11.0), FIRST, replace(CONFIG))
    with caplog.at_level(logging.WARNING):
        row = alarm_row(alarms, 7)
    assert {name: row[f"alarm_{name}"] for name in NAMES} == {
        **dict.fromkeys(NAMES, 0.0),
        "kl": 1.0,
    }
    assert str(row["event"]).startswith("KL to the reference is 11 nats")
    assert "iteration 7: KL to the reference" in caplog.text
    assert "event" not in alarm_row({}, 8)
