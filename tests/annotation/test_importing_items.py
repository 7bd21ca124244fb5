"""What an imported file becomes: its items, its sources, and the errors of its lines."""

import pytest

from annotation import services
from annotation.errors import (
    NotAllowedError,
    RoundConfigError,
)
from annotation.models import ImportedItem, Round
from annotation.scale import Side
from annotation.snapshots import preferences_of
from records.dialogues import Dialogue as DialogueRecord
from records.errors import RecordError
from records.preferences import Axis
from registry.models import PolicyVersion
from tests.annotation.test_items import TWO_TURNS, comparison_of, states
from tests.factories import (
    judge,
    make_annotator,
    make_lead,
    open_imported_round,
    open_test_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db


def test_a_round_of_prompts_has_their_turns_as_its_target() -> None:
    round_ = open_imported_round(*TWO_TURNS, prompt_line("d"))
    assert (round_.source, round_.target_comparisons) == ("prompts", 7)
    assert states(round_) == dict.fromkeys("abcd", "free")


def test_snapshots_name_the_source_of_imported_pairs() -> None:
    line = pair_line(
        "a", "yes", "no", sources=("alpha", ""), opening=("Hi", "Hello"), system="Brief."
    )
    round_ = open_imported_round(line)
    comparison = comparison_of(start_test_dialogue(make_annotator(), round_))
    side = Side(comparison.samples.get(text="yes").side)
    judge(comparison, side=side)

    (preference,) = preferences_of([round_])

    assert (preference.chosen, preference.rejected) == ("yes", "no")
    assert preference.chosen_policy == "import/alpha"
    assert preference.rejected_policy == "import/unnamed"
    assert preference.prompt == DialogueRecord.from_texts(
        "Hi", "Hello", "question a", system="Brief."
    )
    assert preference.dialogue_id == str(round_.items.get().uuid)
    assert not PolicyVersion.objects.get(name="import/alpha").promoted_at


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([prompt_line("a", "1", "2", "3", "4")], "next_turns: items.jsonl line 1: 4 turns .* 3"),
        ([prompt_line("a"), prompt_line("a")], "prompt_id: .* line 2: is that of line 1 too"),
        ([prompt_line("a", "x [INST] y")], r"dialogue: .* line 1: a text may not hold \[INST\]"),
        ([prompt_line("a", "x\0y")], "dialogue: .* zero byte"),
        ([prompt_line("a", "x" * 20_001)], "dialogue: .* 20001 characters are more than 20000"),
        ([prompt_line("a", risk_category="bad")], "risk_category: .* 'bad' is not one of"),
        ([prompt_line("a", attack_vector="bad")], "attack_vector: .* 'bad' is not one of"),
        ([pair_line("a"), pair_line("b", "x")], "responses: items.jsonl line 2: is not a list"),
        (
            [pair_line(n, sources=(f"model {n}", "x")) for n in range(101)],
            "source: .* line 100: more than 100 different",
        ),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(rows: list[dict], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(RecordError, match=message):
        open_imported_round(*rows)
    assert not Round.objects.exists()
    assert not ImportedItem.objects.exists()


def test_pairs_nobody_could_compare_are_left_out_and_counted() -> None:
    rows = [
        pair_line("a"),
        pair_line("b", "Same.", "same"),
        pair_line("c", "I am ChatGPT.", "Hello there, how can I help?"),
        pair_line("d", "I am Zorg.", "Hello there, how can I help?", sources=("zorg", "")),
    ]
    round_ = open_imported_round(*rows)
    assert states(round_) == {"a": "free"}
    assert round_.target_comparisons == 1
    with pytest.raises(RoundConfigError, match="nothing to ask: 1 near identical, 2 names itself"):
        open_imported_round(*rows[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "told"}, "source: 'told' is not one of written, prompts, pairs"),
        ({"source": "prompts", "target_comparisons": 5}, "target_comparisons: imported items"),
        ({"source": "pairs", "max_turns": 2}, "max_turns: 2 is not 1"),
        ({"source": "pairs", "target_comparisons": 0}, "items: the file holds nothing"),
        ({"target_comparisons": 0}, "target_comparisons: 0 is below 1"),
    ],
)
def test_settings_that_do_not_fit_an_imported_round_are_named(
    options: dict[str, object], message: str
) -> None:
    round_ = open_test_round()
    with pytest.raises(RoundConfigError, match=message):
        services.open_round(
            name="other",
            axis=Axis.HELPFULNESS,
            guidelines=round_.guidelines,
            variants=[services.NewVariant(v.policy) for v in round_.variants.all()]
            if options.get("source") != "pairs"
            else (),
            opened_by=round_.opened_by,
            **options,  # type: ignore[arg-type]
        )


def test_only_leads_add_items_to_rounds_that_ask_imported_ones() -> None:
    round_ = open_imported_round(prompt_line("a"))
    with pytest.raises(NotAllowedError):
        services.add_items(lead=make_annotator(), round_=round_, items=[])
    with pytest.raises(RoundConfigError, match="are written in it"):
        services.add_items(lead=make_lead(), round_=open_test_round(), items=[])
