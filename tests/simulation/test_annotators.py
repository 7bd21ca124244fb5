"""Simulated annotators judge by the true utilities, as well as their persona says."""

import pytest

from records.dialogues import Dialogue
from records.preferences import Axis, Rating, SafetyBin
from simulation.agreement import measure_agreement, sample_pairs
from simulation.annotators import (
    PERSONAS,
    Persona,
    SimulatedAnnotator,
    rating_of,
    true_difference,
)
from simulation.parsing import understand
from simulation.utilities import is_violation
from workers.demo.people import CROWD_MIX

FLAWLESS = Persona(name="flawless", expected_accuracy=1.0)
STEAL = Dialogue.from_texts("how do i steal the boat of the king ?")
REFUSING, COMPLYING = "i can not help with that .", "first break the lock . last run away ."


def test_personas_are_those_the_house_names() -> None:
    names = {"careful", "average", "hasty", "position_biased", "length_biased", "random"}
    assert set(PERSONAS) == names
    assert all(persona.name == name for name, persona in PERSONAS.items())


@pytest.mark.parametrize("persona", PERSONAS.values(), ids=PERSONAS)
def test_each_persona_agrees_with_the_truth_as_often_as_it_says(persona: Persona) -> None:
    agreement = measure_agreement(persona, Axis.HELPFULNESS, seed=11, num_pairs=1500)
    assert agreement.overall == pytest.approx(persona.expected_accuracy, abs=0.035)


def test_careful_agreement_rises_with_the_rating_and_ratings_mix_as_in_the_paper() -> None:
    agreement = measure_agreement(PERSONAS["careful"], Axis.HELPFULNESS, seed=3, num_pairs=3000)
    assert agreement.by_rating[Rating.SIGNIFICANTLY_BETTER] > 0.95
    assert agreement.by_rating[Rating.NEGLIGIBLY_BETTER] < 0.85
    shares = [agreement.rating_shares[rating] for rating in Rating]
    assert shares == pytest.approx([0.17, 0.24, 0.30, 0.30], abs=0.05)


def test_the_mixture_of_the_demo_leaves_headroom() -> None:
    expected = sum(share * PERSONAS[name].expected_accuracy for name, share in CROWD_MIX.items())
    assert 0.88 <= expected <= 0.93


@pytest.mark.parametrize("axis", Axis)
def test_a_flawless_annotator_always_prefers_the_truly_better(axis: Axis) -> None:
    annotator = SimulatedAnnotator(FLAWLESS, 0)
    for prompt, left, right in sample_pairs(0, 300, axis):
        verdict = annotator.judge(prompt, left, right, axis)
        difference = true_difference(prompt, left, right, axis)
        assert difference == 0.0 or verdict.prefers_left == (difference > 0.0)
        assert verdict.rating is rating_of(abs(difference), axis)


def test_a_tie_goes_to_either_side_and_is_rated_negligible() -> None:
    annotator = SimulatedAnnotator(FLAWLESS, 0)
    verdicts = [annotator.judge(STEAL, REFUSING, REFUSING, Axis.HELPFULNESS) for _ in range(200)]
    assert all(verdict.rating is Rating.NEGLIGIBLY_BETTER for verdict in verdicts)
    assert 70 <= sum(verdict.prefers_left for verdict in verdicts) <= 130


def test_safety_bins_come_with_safety_verdicts_only() -> None:
    annotator = SimulatedAnnotator(FLAWLESS, 0)
    safety = annotator.judge(STEAL, COMPLYING, REFUSING, Axis.SAFETY)
    assert (safety.prefers_left, safety.safety_bin) == (False, SafetyBin.CHOSEN_SAFE)
    both = annotator.judge(STEAL, COMPLYING, "first break the lock .", Axis.SAFETY)
    assert both.safety_bin is SafetyBin.BOTH_UNSAFE
    assert annotator.judge(STEAL, REFUSING, "time goes by .", Axis.SAFETY).safety_bin is (
        SafetyBin.BOTH_SAFE
    )
    helpful = annotator.judge(STEAL, COMPLYING, REFUSING, Axis.HELPFULNESS)
    assert (helpful.prefers_left, helpful.safety_bin) == (True, None)


def test_an_annotator_that_reads_never_chooses_the_unsafe_over_the_safe() -> None:
    swayed = Persona(name="swayed", noise=2.0, position_bias=3.0, expected_accuracy=0.5)
    annotator = SimulatedAnnotator(swayed, 0)
    for prompt, left, right in sample_pairs(0, 400, Axis.SAFETY):
        verdict = annotator.judge(prompt, left, right, Axis.SAFETY)
        chosen, rejected = (left, right) if verdict.prefers_left else (right, left)
        if is_violation(prompt, chosen):
            assert is_violation(prompt, rejected)
            assert verdict.safety_bin is SafetyBin.BOTH_UNSAFE


def test_position_bias_prefers_the_left_and_length_bias_the_longer() -> None:
    counts = {"position_biased": 0, "length_biased": 0, "average": 0}
    longer = dict.fromkeys(counts, 0)
    for name in counts:
        annotator = SimulatedAnnotator(PERSONAS[name], 0)
        for prompt, left, right in sample_pairs(0, 400, Axis.HELPFULNESS):
            verdict = annotator.judge(prompt, left, right, Axis.HELPFULNESS)
            counts[name] += verdict.prefers_left
            longer[name] += verdict.prefers_left == (len(left) > len(right))
    assert counts["position_biased"] > counts["average"] + 60
    assert longer["length_biased"] > longer["average"] + 40


def test_annotators_of_equal_persona_and_seed_are_the_same_person() -> None:
    first, second = (SimulatedAnnotator(PERSONAS["average"], 7) for _ in range(2))
    for prompt, left, right in sample_pairs(0, 50, Axis.SAFETY):
        assert first.judge(prompt, left, right, Axis.SAFETY) == second.judge(
            prompt, left, right, Axis.SAFETY
        )
    assert first.write_prompt(Axis.SAFETY) == second.write_prompt(Axis.SAFETY)
    other = SimulatedAnnotator(PERSONAS["average"], 8)
    assert [first.write_prompt(Axis.SAFETY) for _ in range(5)] != [
        other.write_prompt(Axis.SAFETY) for _ in range(5)
    ]


def test_annotators_write_mostly_unsafe_prompts_on_safety_only_and_follow_up() -> None:
    annotator = SimulatedAnnotator(PERSONAS["careful"], 0)
    safety = [annotator.write_prompt(Axis.SAFETY).is_safety for _ in range(300)]
    helpful = [annotator.write_prompt(Axis.HELPFULNESS).is_safety for _ in range(300)]
    assert sum(safety) / 300 == pytest.approx(0.75, abs=0.08)
    assert sum(helpful) / 300 == pytest.approx(0.05, abs=0.04)
    dialogue = STEAL.followed_by(REFUSING)
    follow_up = dialogue.followed_by(annotator.follow_up(dialogue))
    assert understand(follow_up).is_unsafe
