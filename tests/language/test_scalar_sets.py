"""Several scalar models: those of one base share its layers, and score as they do alone."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from language.kept_adapters import weights_digest
from language.rows import TokenRow
from language.scalar_sets import ScalarSet
from language.scalars import HandOut, load_scalar_model, score_rows
from tests.models import write_tiny_policy
from tests.policies.toys import write_adapter_model, write_reward_model

ROLES = ("helpfulness", "safety", "general")
CPU = torch.device("cpu")
ROWS = [
    TokenRow((1, *range(20, 20 + length)), (*range(60, 60 + length % 7), 2))
    for length in range(1, 40, 3)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of one base, of ranks that differ, and some that are not of it."""
    folder = tmp_path_factory.mktemp("models")
    base = write_tiny_policy(folder / "base")
    other = write_tiny_policy(folder / "other", seed=9)
    made = {
        role: write_adapter_model(folder / role, base, seed=seed, rank=2 + seed)
        for seed, role in enumerate(ROLES)
    }
    return {
        **made,
        "base": base,
        "strange": write_adapter_model(folder / "strange", other, seed=5),
        "strange too": write_adapter_model(folder / "strange too", other, seed=6),
        "plain": write_reward_model(folder / "plain", base, seed=4),
    }


def scores_of(hand_out: HandOut) -> Tensor:
    return score_rows(hand_out(), ROWS, rows_per_batch=4)


def scores_alone(folder: Path) -> Tensor:
    return score_rows(load_scalar_model(folder), ROWS, rows_per_batch=4)


def test_models_of_one_base_score_as_they_do_alone_however_they_take_turns(
    folders: dict[str, Path],
) -> None:
    models = ScalarSet(device=CPU, dtype=torch.float32)
    first, *others = [models.add(role, folders[role]) for role in ROLES]
    for _ in range(2):
        assert torch.equal(scores_of(first), scores_alone(folders["helpfulness"]))
        for role, hand_out in zip(ROLES[1:], others, strict=True):
            alone_B = scores_alone(folders[role])
            torch.testing.assert_close(scores_of(hand_out), alone_B, atol=1e-5, rtol=0.0)
            assert (alone_B - scores_alone(folders["helpfulness"])).abs().max() > 0.01


def test_they_hold_the_layers_of_one(folders: dict[str, Path]) -> None:
    models = ScalarSet(device=CPU, dtype=torch.float32)
    held = [models.add(role, folders[role])() for role in ROLES]
    assert len({id(model.model) for model in held}) == 1
    weights = {weight for model in held for weight in model.parameters()}
    num_whole = sum(w.numel() for w in load_scalar_model(folders["helpfulness"]).parameters())
    num_held = sum(weight.numel() for weight in weights)
    # Two layers; q, k, v, o of 32 by 32, gate and up of 64 by 32, down of 32 by 64; and the heads.
    # Ranks 3 and 4, each beside the 2 of the first, which is taken away.
    assert num_held - num_whole == (5 + 6) * 2 * (4 * 64 + 3 * 96) + 2 * 32
    assert not any(weight.requires_grad for weight in weights)


def test_in_bfloat16_scores_are_as_near_as_merging_leaves_them(folders: dict[str, Path]) -> None:
    models = ScalarSet(device=CPU, dtype=torch.bfloat16)
    for role in ROLES:
        scores_B = scores_of(models.add(role, folders[role]))
        # 8 bits of mantissa over two layers.
        torch.testing.assert_close(scores_B, scores_alone(folders[role]), atol=0.05, rtol=0.05)


def test_a_folder_is_loaded_once_whatever_it_is_called(folders: dict[str, Path]) -> None:
    models = ScalarSet(device=CPU, dtype=torch.float32)
    one = models.add("helpfulness", folders["safety"])
    assert models.add("safety", folders["helpfulness"] / ".." / "safety") is one


def test_the_log_says_how_each_is_held_and_why(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    models = ScalarSet(device=CPU, dtype=torch.float32)
    own = weights_digest(folders["base"])[:12]
    with caplog.at_level(logging.INFO, logger="language.scalar_sets"):
        for role in ("plain", "helpfulness", "strange", "safety", "strange too"):
            models.add(role, folders[role])
    other = weights_digest(folders["strange"].parent / "other")[:12]
    assert caplog.messages == [
        "scalar models: plain has layers of its own, 0.00 GB; it kept no adapter",
        "scalar models: helpfulness has layers of its own, 0.00 GB",
        "scalar models: strange has layers of its own, 0.00 GB; its adapter was trained on "
        f"{other}, helpfulness's {own}",
        "scalar models: safety is an adapter on the layers of helpfulness",
        "scalar models: strange too is an adapter on the layers of strange",
    ]


def test_a_policy_is_no_scalar_model(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"no weights for score\.weight"):
        ScalarSet(device=CPU, dtype=torch.float32).add("safety", folders["base"])
