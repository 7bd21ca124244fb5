"""The primitives of processes that share a run, with one process and with two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from language.distributed import (
    all_reduce_max_,
    all_reduce_sum_,
    barrier,
    gather_objects,
    is_lost_process,
    shard,
    share_out,
    world,
)

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import json, sys
import torch
import torch.distributed as dist
from language.distributed import *

def work(numbers):
    worked_on.append(list(numbers))
    return [number * number for number in numbers]


dist.init_process_group("gloo")
rank, world_size = world()
worked_on = []
found = {
    "world": [rank, world_size],
    "sum": all_reduce_sum_(torch.tensor([1.0 + rank])).item(),
    "max": all_reduce_max_(torch.tensor([1.0 + rank])).item(),
    "gathered": gather_objects({"rank": rank}),
    "squares": share_out([3, 1, 4, 1, 5], work),
    "squares of one": share_out([6], work),
    "worked_on": worked_on,
}
open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps(found))
barrier()
dist.destroy_process_group()
"""


def test_shards_share_all_items_and_none_twice() -> None:
    items = list(range(7))

    shards = [shard(items, rank, 3) for rank in range(3)]

    assert shards == [[0, 3, 6], [1, 4], [2, 5]]


def test_with_one_process_nothing_changes() -> None:
    barrier()

    assert world() == (0, 1)
    assert all_reduce_sum_(torch.tensor(2.0)).item() == 2.0
    assert all_reduce_max_(torch.tensor(2.0)).item() == 2.0
    assert gather_objects("x") == ["x"]
    assert share_out([1, 2], lambda items: [-item for item in items]) == [-1, -2]
    assert share_out([], lambda items: list(items)) == []


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "child.py"
    script.write_text(CHILD)
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node=2", str(script), str(folder)),
        ],
        cwd=ROOT,
        env={
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            "PET_LOG_DIR": str(folder),
        },
        check=True,
        capture_output=True,
        timeout=120,
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_agree_on_sums_maxima_and_objects(
    two_processes: list[dict[str, object]],
) -> None:
    for rank, found in enumerate(two_processes):
        assert found["world"] == [rank, 2]
        assert found["sum"] == 3.0
        assert found["max"] == 2.0
        assert found["gathered"] == [{"rank": 0}, {"rank": 1}]


def test_shared_work_comes_back_in_order_and_each_process_does_as_much(
    two_processes: list[dict[str, object]],
) -> None:
    for found in two_processes:
        assert found["squares"] == [9, 1, 16, 1, 25]
        assert found["squares of one"] == [36]
    # The second process has one number less, or none: it does the first again.
    first, second = (found["worked_on"] for found in two_processes)
    assert first == [[3, 4, 5], [6]]
    assert second == [[1, 1, 3], [6]]


def test_a_lost_process_is_told_from_an_error_of_ones_own() -> None:
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"
    assert is_lost_process(RuntimeError(gloo))
    assert is_lost_process(dist.DistNetworkError("the server is away"))
    assert not is_lost_process(RuntimeError("size mismatch"))
    assert not is_lost_process(ValueError("num_epochs: -1.0 must be greater than 0"))
