"""Checkpoints: whole or skipped, and exact."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from language.checkpoints import (
    StoredTensors,
    combine,
    latest_checkpoint,
    pack_model,
    pack_optimizer,
    pack_rng,
    save_checkpoint,
    unpack_model,
    unpack_optimizer,
    unpack_rng,
)
from language.optimizers import create_optimizer, create_schedule
from records.run_configs import OptimizerConfig

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2**40])}


def test_tensors_and_state_come_back(tmp_path: Path) -> None:
    state = {"reward": 0.1 + 0.2, "names": ["x"], "best": None}

    path = save_checkpoint(tmp_path, step=10, tensors=TENSORS, state=state)
    checkpoint = latest_checkpoint(tmp_path)

    assert path == tmp_path / "step-00000010"
    assert checkpoint is not None
    assert checkpoint.step == 10
    assert checkpoint.state == state
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(checkpoint.tensors[name], TENSORS[name]) for name in TENSORS)


def test_there_is_no_checkpoint_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


def test_the_newest_is_taken_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9):
        save_checkpoint(tmp_path, step=step, tensors=TENSORS, state={"step": step}, keep=2)

    checkpoint = latest_checkpoint(tmp_path)

    assert checkpoint is not None
    assert checkpoint.step == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_the_state(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["state"]["step"] = 99
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("tensors.safetensors", truncate),
        ("tensors.safetensors", flip_a_bit),
        ("tensors.safetensors", Path.unlink),
        ("manifest.json", truncate),
        ("manifest.json", change_the_state),
        ("manifest.json", Path.unlink),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: object
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step=step, tensors=TENSORS, state={"step": step})
    assert callable(damage)
    damage(tmp_path / "step-00000002" / file)

    checkpoint = latest_checkpoint(tmp_path)

    assert checkpoint is not None
    assert checkpoint.step == 1
    assert "step-00000002 is damaged" in caplog.text


def test_a_write_that_was_cut_off_leaves_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-00000003.77.tmp").mkdir()
    save_checkpoint(tmp_path, step=2, tensors=TENSORS, state={})

    checkpoint = latest_checkpoint(tmp_path)

    assert checkpoint is not None
    assert checkpoint.step == 2


def test_values_that_json_cannot_hold_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, step=1, tensors=TENSORS, state={"best": float("-inf")})
    with pytest.raises(ValueError, match="keep: 0"):
        save_checkpoint(tmp_path, step=1, tensors=TENSORS, state={}, keep=0)
    assert latest_checkpoint(tmp_path) is None


def test_tensors_that_share_memory_or_are_views_are_stored_by_value(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"whole": whole, "again": whole, "column": whole[:, 1], "row": whole[1]}

    save_checkpoint(tmp_path, step=1, tensors=tensors, state={})
    checkpoint = latest_checkpoint(tmp_path)

    assert checkpoint is not None
    assert all(torch.equal(checkpoint.tensors[name], tensors[name]) for name in tensors)


def test_the_rows_of_several_files_are_one_tensor_of_which_any_part_is_read(tmp_path: Path) -> None:
    whole = torch.arange(14.0).view(7, 2)
    # Three processes: 3, 3 and 1 rows; a head of one row is the first one's, the count unshared.
    heads = [torch.ones(1, 2), torch.ones(0, 2), torch.ones(0, 2)]
    paths = []
    for number, (part, head) in enumerate(zip(whole.split(3), heads, strict=True)):
        count = {} if number else {"count": torch.tensor(5.0)}
        paths.append(tmp_path / f"{number}.safetensors")
        save_file({"weight": part.clone(), "head": head, **count}, paths[-1])

    stored = StoredTensors(paths, "cpu")

    assert set(stored) == {"weight", "head", "count"}
    assert torch.equal(stored["weight"], whole)
    assert stored["count"] == 5.0
    for start, end in [(0, 7), (0, 4), (4, 7), (2, 5), (3, 6), (6, 7), (7, 7), (0, 0)]:
        assert torch.equal(stored.rows("weight", start, end), whole[start:end]), (start, end)
    assert stored.rows("head", 1, 1).shape == (0, 2)


class Trainer:
    """A small training with every kind of state: moments, schedule, and four generators."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        config = OptimizerConfig(learning_rate=0.01, min_warmup_steps=2)
        self.optimizer = create_optimizer(self.model, config)
        self.schedule = create_schedule(self.optimizer, config, 10)
        self.generator = torch.Generator().manual_seed(4)

    def step(self) -> float:
        noise = torch.rand(3, 4) + np.random.normal() + random.gauss(0, 1)
        noise = noise + torch.rand(3, 4, generator=self.generator)
        loss = self.model(noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def save(self, folder: Path, step: int) -> None:
        packed = combine(
            pack_model(self.model),
            pack_optimizer(self.optimizer),
            pack_rng(generator=self.generator),
        )
        state = {**packed.state, "schedule": self.schedule.state_dict()}
        save_checkpoint(folder, step=step, tensors=packed.tensors, state=state)

    def load(self, folder: Path) -> None:
        checkpoint = latest_checkpoint(folder)
        assert checkpoint is not None
        unpack_model(self.model, checkpoint)
        unpack_optimizer(self.optimizer, checkpoint)
        unpack_rng(checkpoint, generator=self.generator)
        self.schedule.load_state_dict(checkpoint.state["schedule"])


def test_ten_steps_equal_five_a_resume_and_five_bit_for_bit(tmp_path: Path) -> None:
    whole = Trainer()
    expected = [whole.step() for _ in range(10)]

    first = Trainer()
    losses = [first.step() for _ in range(5)]
    first.save(tmp_path, 5)
    second = Trainer()
    second.load(tmp_path)
    losses += [second.step() for _ in range(5)]

    assert losses == expected
    for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_saving_does_not_disturb_the_run(tmp_path: Path) -> None:
    quiet, saving = Trainer(), Trainer()
    expected = [quiet.step() for _ in range(4)]
    saving = Trainer()

    losses = []
    for step in range(4):
        saving.save(tmp_path, step)
        losses.append(saving.step())

    assert losses == expected


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    Trainer().save(tmp_path, 1)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None

    with pytest.raises(RuntimeError, match="size mismatch"):
        unpack_model(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), checkpoint)


def test_parts_with_the_same_prefix_are_refused() -> None:
    model = nn.Linear(2, 2)

    with pytest.raises(ValueError, match="share the names"):
        combine(pack_model(model), pack_model(model))
    both: dict[str, Tensor] = combine(
        pack_model(model, prefix="policy"), pack_model(model, prefix="value")
    ).tensors
    assert set(both) == {"policy.weight", "policy.bias", "value.weight", "value.bias"}
