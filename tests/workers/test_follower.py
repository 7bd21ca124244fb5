"""Rows of metrics are followed through everything a run does to its file."""

from pathlib import Path

import pytest

from records.rundirs import RunDirectory
from workers.follower import MetricsFollower


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_each_row_is_yielded_once_while_the_file_grows(directory: RunDirectory) -> None:
    follower = MetricsFollower(directory)
    assert follower.new_rows() == []
    directory.append_metrics(1, {"loss": 0.5})
    assert follower.new_rows() == [{"step": 1, "loss": 0.5}]
    directory.append_metrics(2, {"loss": 0.25})
    assert follower.new_rows() == [{"step": 2, "loss": 0.25}]
    assert follower.new_rows() == []


def test_a_half_written_line_waits_until_it_is_whole(directory: RunDirectory) -> None:
    follower = MetricsFollower(directory)
    directory.metrics_path.write_text('{"step": 1, "lo')
    assert follower.new_rows() == []
    directory.metrics_path.write_text('{"step": 1, "loss": 2.0}\n')
    assert follower.new_rows() == [{"step": 1, "loss": 2.0}]


def test_rows_dropped_and_written_again_are_yielded_again(directory: RunDirectory) -> None:
    follower = MetricsFollower(directory)
    for step in (1, 2, 3):
        directory.append_metrics(step, {"loss": float(step)})
    follower.new_rows()
    directory.drop_metrics_after(1)
    assert follower.new_rows() == [{"step": 1, "loss": 1.0}]
    directory.append_metrics(2, {"loss": 2.5})
    assert follower.new_rows() == [{"step": 2, "loss": 2.5}]


def test_a_file_rewritten_beyond_the_old_place_is_read_anew(directory: RunDirectory) -> None:
    follower = MetricsFollower(directory)
    directory.append_metrics(1, {"loss": 1.0})
    follower.new_rows()
    directory.drop_metrics_after(0)
    directory.append_metrics(1, {"loss": 1.25, "seconds": 3.0})
    assert follower.new_rows() == [{"step": 1, "loss": 1.25, "seconds": 3.0}]


def test_every_row_starts_from_the_beginning(directory: RunDirectory) -> None:
    follower = MetricsFollower(directory)
    directory.append_metrics(1, {"loss": 1.0})
    follower.new_rows()
    assert follower.every_row() == [{"step": 1, "loss": 1.0}]
