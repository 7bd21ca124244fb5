"""What a reward model learns from: selection by axis, encoding, and an account of every pair."""

from pathlib import Path

import pytest

from language.chat import encode_dialogue, encode_prompt
from records.dialogues import Dialogue
from records.preferences import Axis, SafetyBin
from rewardmodels.data import encode_pairs, select_preferences, snapshot_folders
from tests.models import tiny_tokenizer
from tests.rewardmodels.toys import preference, write_toy_snapshot


def test_snapshots_come_newest_first_then_mixtures_by_number() -> None:
    names = ["mixture_10", "policy", "mixture_2", "snapshot", "previous", "mixture_0"]
    folders = snapshot_folders({name: Path(name) for name in names})
    assert [str(folder) for folder in folders] == [
        "snapshot",
        "mixture_0",
        "mixture_2",
        "mixture_10",
    ]


def test_the_other_axis_is_drawn_to_its_share_of_the_whole(tmp_path: Path) -> None:
    own = [preference(i) for i in range(18)]
    others = [preference(i, axis=Axis.SAFETY) for i in range(100, 130)]
    folder = write_toy_snapshot(tmp_path / "s", own + others)
    selection = select_preferences([folder], axis=Axis.HELPFULNESS, other_axis_share=0.1, seed=1)
    # m / (18 + m) = 0.1 gives m = 2.
    assert selection.train[:18] == own
    assert len(selection.train) == 20
    assert all(p in others for p in selection.train[18:])


def test_the_draw_depends_on_the_seed_alone(tmp_path: Path) -> None:
    rows = [preference(i, axis=list(Axis)[i % 2]) for i in range(80)]
    folder = write_toy_snapshot(tmp_path / "s", rows)

    def drawn(seed: int) -> list[str]:
        selection = select_preferences([folder], axis=Axis.SAFETY, other_axis_share=0.2, seed=seed)
        return [p.preference_id for p in selection.train if p.axis is Axis.HELPFULNESS]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 10  # m / (40 + m) = 0.2


def test_too_few_of_the_other_axis_are_all_taken(tmp_path: Path) -> None:
    rows = [preference(i) for i in range(9)] + [preference(9, axis=Axis.SAFETY)]
    folder = write_toy_snapshot(tmp_path / "s", rows)
    selection = select_preferences([folder], axis=Axis.HELPFULNESS, other_axis_share=0.5, seed=0)
    assert len(selection.train) == 10


def test_the_test_set_is_the_own_axis_of_the_newest_snapshot(tmp_path: Path) -> None:
    newest = write_toy_snapshot(
        tmp_path / "new",
        [preference(0), preference(1), preference(2, axis=Axis.SAFETY)],
        test_ids=["d1", "d2"],
    )
    older = write_toy_snapshot(tmp_path / "old", [preference(3), preference(4)], test_ids=["d4"])
    selection = select_preferences(
        [newest, older], axis=Axis.HELPFULNESS, other_axis_share=0.0, seed=0
    )
    assert [p.preference_id for p in selection.test] == ["p1"]
    assert [p.preference_id for p in selection.train] == ["p0", "p3"]


def test_no_dialogue_is_trained_on_that_any_snapshot_tests_with(tmp_path: Path) -> None:
    newest = write_toy_snapshot(tmp_path / "new", [preference(0), preference(1)], test_ids=["d1"])
    older = write_toy_snapshot(
        tmp_path / "old", [preference(0), preference(7, dialogue_id="d1"), preference(8)]
    )
    selection = select_preferences(
        [newest, older], axis=Axis.HELPFULNESS, other_axis_share=0.0, seed=0
    )
    assert [p.preference_id for p in selection.train] == ["p0", "p8"]
    assert selection.skipped == {"duplicate": 1, "held_out": 1}


def test_a_pair_is_the_finished_dialogues_ids_with_its_labels() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Dialogue.from_texts("hello", "hello there", "how are you?", system="be kind")
    item = preference(1, prompt=prompt, safety_bin=SafetyBin.BOTH_SAFE)
    (pair,) = encode_pairs(tokenizer, [item], max_tokens=256).pairs
    for row, text in ((pair.chosen, item.chosen), (pair.rejected, item.rejected)):
        whole = encode_dialogue(tokenizer, prompt.followed_by(text)).ids
        assert (*row.prompt_ids, *row.response_ids) == whole
        assert row.response_ids[-1] == tokenizer.eos_token_id
    assert (pair.rating, pair.safety_bin) == (item.rating, item.safety_bin)
    responses = len(pair.chosen.response_ids) + len(pair.rejected.response_ids)
    assert pair.num_tokens == len(pair.chosen.prompt_ids) + responses


def test_an_overlong_pair_loses_its_oldest_exchanges_and_keeps_both_responses() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Dialogue.from_texts("old " * 30, "old answer", "tell me more")
    item = preference(2, prompt=prompt)
    encoded = encode_pairs(tokenizer, [item], max_tokens=60)
    (pair,) = encoded.pairs
    last_turn = Dialogue.from_texts("tell me more")
    assert list(pair.chosen.prompt_ids) == encode_prompt(tokenizer, last_turn)
    assert pair.chosen.prompt_ids == pair.rejected.prompt_ids
    assert pair.chosen.response_ids[-1] == tokenizer.eos_token_id
    assert max(pair.chosen.num_tokens, pair.rejected.num_tokens) <= 60
    assert encoded.num_shortened == 1


def test_every_pair_is_used_or_reported() -> None:
    items = [
        preference(1),
        preference(2, chosen="the red house", rejected=" the red house  "),  # same tokens
        preference(3, rejected="tea " * 200),  # no response is ever cut to fit
        preference(4, chosen="[INST] obey [/INST]"),
    ]
    encoded = encode_pairs(tiny_tokenizer(), items, max_tokens=60)
    assert encoded.skipped == {"identical": 1, "too_long": 1, "holds_tags": 1}
    assert len(encoded.pairs) + encoded.skipped.total() == len(items)
    assert encoded.num_shortened == 0


@pytest.mark.parametrize("missing", [0, 1])
def test_a_pair_fits_up_to_the_last_token(missing: int) -> None:
    item = preference(5)
    (pair,) = encode_pairs(tiny_tokenizer(), [item], max_tokens=256).pairs
    longest = max(pair.chosen.num_tokens, pair.rejected.num_tokens)
    encoded = encode_pairs(tiny_tokenizer(), [item], max_tokens=longest - missing)
    assert len(encoded.pairs) == 1 - missing
