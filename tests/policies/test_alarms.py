"""Alarms: each is raised past its threshold and only there, and says what to do."""

import logging
from dataclasses import replace

import pytest

from policies.alarms import NAMES, Peak, Signs, alarm_row, alarms_of, monitor_alarm, peak_after
from policies.heldout import HeldOutLook
from policies.statistics import Moments
from records.ppo_choices import AlarmConfig

CONFIG = AlarmConfig(
    kl=10.0, entropy_share=0.25, length_ratio=2.0, ratio_deviation=0.01, monitor_drop=0.5
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
        kl=0.0, entropy_share=0.0, length_ratio=0.0, ratio_deviation=0.0, monitor_drop=0.0
    )
    assert alarms_of(Signs(99.0, 0.0, 1.0, 1.0), FIRST, off) == {}
    assert monitor_alarm(look(9.0, -9.0), look(0.0, 0.0), Peak(0.0, 0.0), off) == {}


def test_the_words_name_the_setting_to_change() -> None:
    alarms = alarms_of(Signs(99.0, 0.0, 1.0, 1.0), FIRST, CONFIG)
    settings = {"kl": "kl_coef", "length": "truncation_penalty", "ratio": "alarms.ratio_deviation"}
    for name, setting in settings.items():
        assert setting in alarms[name]


def look(reward: float, general: float | None) -> HeldOutLook:
    moments = None if general is None else Moments(general, 4.0)
    return HeldOutLook(Moments(reward, 1.0), 0.0, 1.0, general=moments)


@pytest.mark.parametrize(
    ("now", "is_raised"),
    [
        (look(2.0, 0.1), True),  # reward above that of the peak, monitor 1.4 below: 0.7 deviations
        (look(2.0, 0.6), False),  # 0.45 deviations are within 0.5
        (look(0.9, 0.1), False),  # the reward fell too: a bad policy, but not a gamed reward
        (look(2.0, None), False),  # nobody watches
    ],
)
def test_the_monitor_falls_while_the_reward_rises(now: HeldOutLook, is_raised: bool) -> None:
    found = monitor_alarm(now, look(0.0, 0.0), Peak(general=1.5, reward=1.0), CONFIG)
    assert ("monitor" in found) == is_raised
    assert not is_raised or "gamed" in found["monitor"]


def test_the_peak_is_the_first_look_that_the_monitor_liked_best() -> None:
    peak = None
    for reward, general in ((0.0, 1.0), (1.0, 1.5), (2.0, 1.5), (3.0, 0.2)):
        peak = peak_after(peak, look(reward, general))
    assert peak == Peak(general=1.5, reward=1.0)
    assert peak_after(None, look(1.0, None)) is None


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
