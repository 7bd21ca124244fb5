"""Mixtures: what is taken whole, what is drawn, and that nothing leaks from the held-out sides."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from records.preferences import Axis, Preference
from records.reward_configs import RewardModelConfig, Whole
from rewardmodels.mixtures import (
    MixturePart,
    Selection,
    select_preferences,
    snapshot_folders,
    write_selection,
)
from tests.rewardmodels.toys import preference, write_toy_snapshot

HELPFULNESS = RewardModelConfig(axis=Axis.HELPFULNESS, other_axis_share=0.0)
PAPER_HELPFULNESS = RewardModelConfig(
    axis=Axis.HELPFULNESS, whole=Whole.COLLECTED, other_axis_share=0.5
)
PAPER_SAFETY = RewardModelConfig(axis=Axis.SAFETY, whole=Whole.AXIS, other_axis_share=0.1)


def ids(preferences: list[Preference]) -> list[str]:
    return [preference.preference_id for preference in preferences]


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Path]:
    """Collected: 20 helpfulness, 9 safety. Imported: 40 helpfulness, 18 safety."""
    collected = [preference(i) for i in range(20)]
    collected += [preference(i, axis=Axis.SAFETY) for i in range(20, 29)]
    imported = [preference(i, source="open") for i in range(100, 140)]
    imported += [preference(i, axis=Axis.SAFETY, source="open") for i in range(140, 158)]
    return {
        "snapshot": write_toy_snapshot(tmp_path / "collected", collected),
        "mixture_0": write_toy_snapshot(tmp_path / "imported", imported),
    }


def test_snapshots_come_newest_first_then_mixtures_by_number() -> None:
    names = ["mixture_10", "policy", "mixture_2", "snapshot", "previous", "mixture_0"]
    folders = snapshot_folders({name: Path(name) for name in names})
    assert list(folders) == ["snapshot", "mixture_0", "mixture_2", "mixture_10"]


def test_the_papers_helpfulness_model_adds_an_equal_amount_of_all_the_rest(
    mixed: dict[str, Path],
) -> None:
    selection = select_preferences(mixed, PAPER_HELPFULNESS)
    assert ids(selection.train[:20]) == [f"p{i}" for i in range(20)]
    drawn = selection.train[20:]
    assert len(drawn) == 20  # m / (20 + m) = 1/2
    assert len(set(ids(drawn))) == 20
    assert all(p.axis is Axis.SAFETY or p.source == "open" for p in drawn)
    # The rest holds 9 + 40 + 18 = 67 rows; a uniform draw of 20 meets all three sets.
    assert {(p.axis, p.source) for p in drawn} == {
        (Axis.SAFETY, "concord"),
        (Axis.HELPFULNESS, "open"),
        (Axis.SAFETY, "open"),
    }


def test_the_papers_safety_model_mixes_all_of_safety_90_to_10_with_helpfulness(
    mixed: dict[str, Path],
) -> None:
    selection = select_preferences(mixed, PAPER_SAFETY)
    assert selection.num_whole == 27  # 9 collected, 18 imported
    assert all(p.axis is Axis.SAFETY for p in selection.train[:27])
    assert [p.axis for p in selection.train[27:]] == [Axis.HELPFULNESS] * 3  # m / (27 + m) = 0.1


def test_the_general_model_takes_everything_and_is_tested_on_everything(tmp_path: Path) -> None:
    rows = [preference(i, axis=list(Axis)[i % 2]) for i in range(8)]
    folder = write_toy_snapshot(tmp_path / "s", rows, test_ids=["d6", "d7"])
    config = RewardModelConfig(is_general=True, whole=Whole.COLLECTED)
    selection = select_preferences({"snapshot": folder}, config)
    assert ids(selection.train) == [f"p{i}" for i in range(6)]
    assert ids(selection.test) == ["p6", "p7"]


def test_the_result_says_how_many_rows_came_from_where(mixed: dict[str, Path]) -> None:
    parts = select_preferences(mixed, PAPER_SAFETY).parts
    assert [part for part in parts if part.is_whole] == [
        MixturePart("snapshot", "safety", "concord", True, 9, 9),
        MixturePart("mixture_0", "safety", "open", True, 18, 18),
    ]
    drawn = [part for part in parts if not part.is_whole]
    assert [(part.snapshot, part.num_available) for part in drawn] == [
        ("snapshot", 20),
        ("mixture_0", 40),
    ]
    assert sum(part.num_taken for part in drawn) == 3


def test_every_row_that_was_selected_is_on_file(mixed: dict[str, Path], tmp_path: Path) -> None:
    selection = select_preferences(mixed, PAPER_SAFETY)
    write_selection(tmp_path / "rows.parquet", selection)
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["preference_id"] for row in rows] == ids(selection.train)
    assert [row["is_whole"] for row in rows] == [True] * 27 + [False] * 3
    assert rows[0] == {
        "preference_id": "p20",
        "dialogue_id": "d20",
        "snapshot": "snapshot",
        "axis": "safety",
        "source": "concord",
        "is_whole": True,
    }
    assert {row["snapshot"] for row in rows[9:27]} == {"mixture_0"}


def test_the_draw_depends_on_the_seed_alone(mixed: dict[str, Path]) -> None:
    def drawn(seed: int) -> list[str]:
        config = RewardModelConfig(seed=seed, whole=Whole.COLLECTED, other_axis_share=0.5)
        selection = select_preferences(mixed, config)
        return ids(selection.train[selection.num_whole :])

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_smaller_shares_lie_within_larger_ones_and_keep_their_order(
    mixed: dict[str, Path],
) -> None:
    whole = select_preferences(mixed, PAPER_SAFETY)
    quarter, half = (
        select_preferences(mixed, replace(PAPER_SAFETY, data_share=share)) for share in (0.25, 0.5)
    )
    assert (len(quarter.train), len(half.train), len(whole.train)) == (8, 15, 30)
    kept = set(ids(half.train))
    assert set(ids(quarter.train)) < kept < set(ids(whole.train))
    assert ids(half.train) == [name for name in ids(whole.train) if name in kept]
    assert [p.axis for p in half.train].count(Axis.SAFETY) == half.num_whole
    assert sum(part.num_taken for part in half.parts) == 15
    assert half.test == whole.test


def test_a_share_of_few_pairs_is_at_least_one(tmp_path: Path) -> None:
    folder = write_toy_snapshot(tmp_path / "s", [preference(i) for i in range(3)])
    selection = select_preferences({"snapshot": folder}, replace(HELPFULNESS, data_share=0.01))
    assert len(selection.train) == 1


def test_too_few_of_the_rest_are_all_taken(tmp_path: Path) -> None:
    rows = [preference(i) for i in range(9)] + [preference(9, axis=Axis.SAFETY)]
    folder = write_toy_snapshot(tmp_path / "s", rows)
    config = RewardModelConfig(axis=Axis.HELPFULNESS, other_axis_share=0.5)
    assert len(select_preferences({"snapshot": folder}, config).train) == 10


def test_the_test_set_is_the_own_axis_of_all_held_out_rounds(tmp_path: Path) -> None:
    newest = write_toy_snapshot(
        tmp_path / "new",
        [preference(0), preference(1), preference(2, axis=Axis.SAFETY)],
        test_ids=["d1", "d2"],
    )
    older = write_toy_snapshot(
        tmp_path / "old",
        [preference(1), preference(3), preference(4), preference(5, axis=Axis.SAFETY)],
        test_ids=["d1", "d4", "d5"],
    )
    selection = select_preferences({"snapshot": newest, "mixture_0": older}, HELPFULNESS)
    assert ids(selection.test) == ["p1", "p4"]
    assert ids(selection.train) == ["p0", "p3"]


def test_open_data_is_a_test_only_where_it_is_the_newest_snapshot(tmp_path: Path) -> None:
    opened = [preference(0, source="open"), preference(1, source="open")]
    collected = [preference(2), preference(3)]
    folders = {
        "snapshot": write_toy_snapshot(tmp_path / "collected", collected, test_ids=["d3"]),
        "mixture_0": write_toy_snapshot(tmp_path / "open", opened, test_ids=["d1"]),
    }
    assert ids(select_preferences(folders, PAPER_HELPFULNESS).test) == ["p3"]
    turned = {"snapshot": folders["mixture_0"], "mixture_0": folders["snapshot"]}
    assert ids(select_preferences(turned, PAPER_HELPFULNESS).test) == ["p1", "p3"]


def leaks(selection: Selection, *held_out: str) -> set[str]:
    return {p.dialogue_id for p in selection.train} & set(held_out)


@pytest.mark.parametrize("config", [HELPFULNESS, PAPER_HELPFULNESS, PAPER_SAFETY])
def test_no_dialogue_is_trained_on_that_any_snapshot_tests_with(
    config: RewardModelConfig, tmp_path: Path
) -> None:
    newest = write_toy_snapshot(tmp_path / "new", [preference(0), preference(1)], test_ids=["d1"])
    older = write_toy_snapshot(
        tmp_path / "old",
        [preference(0), preference(7, dialogue_id="d1"), preference(8), preference(9)],
        test_ids=["d9"],
    )
    oldest = write_toy_snapshot(
        tmp_path / "oldest",
        [
            preference(10, dialogue_id="d9", axis=Axis.SAFETY, source="open"),
            preference(11, axis=Axis.SAFETY, source="open"),
        ],
    )
    folders = {"snapshot": newest, "mixture_0": older, "mixture_1": oldest}
    selection = select_preferences(folders, config)
    assert not leaks(selection, "d1", "d9")
    assert selection.skipped == {"duplicate": 1, "held_out": 2}
