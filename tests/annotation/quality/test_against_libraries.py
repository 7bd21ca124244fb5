"""Agreement and competence equal those of irrCAC, krippendorff and crowd-kit (`oracle.py`)."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from annotation.quality.agreement import Metric, gwet_ac, krippendorff_alpha
from annotation.quality.competence import one_coin_competence
from annotation.quality.tables import Label, patterns_of
from annotation.quality.weights import Weighting
from tests.annotation.quality.cases import SET_NAMES, Case, cases, set_case
from tests.annotation.quality.oracle_steps import STEPS

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "reference.json").read_text())
NAMES = [*cases(), *SET_NAMES]


@cache
def case_named(name: str) -> Case:
    if name in SET_NAMES and "CONCORD_DATA" not in os.environ:
        pytest.skip("CONCORD_DATA does not point to the shared data sets")
    return set_case(name) if name in SET_NAMES else cases()[name]


def labels_of_case(name: str) -> list[Label]:
    return [Label(*triple) for triple in case_named(name).triples]


def test_every_case_has_its_reference() -> None:
    assert set(REFERENCE) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_judgements_are_counted(name: str) -> None:
    patterns = patterns_of(labels_of_case(name))
    total = sum(len(pattern) * number for pattern, number in patterns.items())
    assert total == REFERENCE[name]["num_judgements"]


@pytest.mark.parametrize("weighting", list(Weighting))
@pytest.mark.parametrize("name", NAMES)
def test_gwets_coefficient_and_its_interval_are_those_of_irrcac(
    name: str, weighting: Weighting
) -> None:
    patterns = patterns_of(labels_of_case(name))
    ours = gwet_ac(patterns, case_named(name).num_categories, weighting)
    value, low, high, *_ = REFERENCE[name]["gwet"][weighting]
    assert (ours.value, ours.low, ours.high) == pytest.approx((value, low, high), abs=1e-9)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("name", NAMES)
def test_alpha_is_that_of_krippendorff(name: str, metric: Metric) -> None:
    patterns = patterns_of(labels_of_case(name))
    ours = krippendorff_alpha(patterns, case_named(name).num_categories, metric)
    assert ours.value == pytest.approx(REFERENCE[name]["krippendorff"][metric], abs=1e-9)
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low < ours.value < ours.high


@pytest.mark.parametrize("name", NAMES)
def test_competence_after_equally_many_steps_is_that_of_crowd_kit(name: str) -> None:
    num_categories = case_named(name).num_categories
    ours = one_coin_competence(labels_of_case(name), num_categories, max_steps=STEPS)
    theirs = REFERENCE[name]["competence"]
    assert set(ours.by_annotator) == set(theirs)
    for annotator, share in ours.by_annotator.items():
        assert share.value == pytest.approx(theirs[annotator], abs=1e-9), annotator
