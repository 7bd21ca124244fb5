"""Policies: made, saved, loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from language.devices import own_gpu
from language.logprobs import response_logprobs
from language.models import (
    create_policy,
    load_policy,
    resolve_device,
    resolve_dtype,
    save_model,
)
from language.rows import TokenRow, pad_rows
from language.tokenizers import train_tokenizer
from records.run_configs import ModelShape
from tests.models import TEXTS, tiny_policy, tiny_tokenizer, write_tiny_policy

SHAPE = ModelShape(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=4)
BATCH = pad_rows([TokenRow((1, 20, 30), (40, 50, 2)), TokenRow((1, 60), (70,))], pad_id=3)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = create_policy(SHAPE, tiny_tokenizer(), seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(6)
    second = create_policy(SHAPE, tiny_tokenizer(), seed=1)
    third = create_policy(SHAPE, tiny_tokenizer(), seed=2)
    torch.manual_seed(5)

    assert torch.equal(first.lm_head.weight, second.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, third.lm_head.weight)
    assert torch.equal(drawn, torch.rand(1)), "making a model must not move the global generator"


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    shape = ModelShape(hidden_size=30, num_heads=4)

    with pytest.raises(ValueError, match="hidden_size: 30 is not a multiple of num_heads 4"):
        create_policy(shape, tiny_tokenizer(), seed=0)


def test_the_end_token_is_learnt_even_when_it_pads() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=300)
    tokenizer.pad_token = tokenizer.eos_token
    model = create_policy(SHAPE, tokenizer, seed=0)

    model(torch.tensor([[1, 2, 5]])).logits.sum().backward()

    gradient = model.model.embed_tokens.weight.grad
    assert gradient is not None
    assert gradient[2].abs().sum() > 0


def test_a_saved_policy_computes_the_same_when_loaded(tmp_path: Path) -> None:
    model = tiny_policy()
    save_model(model, tiny_tokenizer(), tmp_path / "policy")

    loaded = load_policy(tmp_path / "policy")

    assert torch.equal(response_logprobs(model, BATCH), response_logprobs(loaded, BATCH))
    assert not loaded.training
    assert sorted(path.suffix for path in (tmp_path / "policy").iterdir() if path.is_file()) == [
        ".jinja",
        *([".json"] * 4),
        ".safetensors",
    ]


def test_saving_over_a_policy_replaces_it(tmp_path: Path) -> None:
    write_tiny_policy(tmp_path / "policy", seed=0)
    write_tiny_policy(tmp_path / "policy", seed=1)

    loaded = load_policy(tmp_path / "policy")

    assert torch.equal(loaded.lm_head.weight, tiny_policy(1).lm_head.weight)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")
    (folder / "model.safetensors").unlink()
    torch.save(tiny_policy().state_dict(), folder / "pytorch_model.bin")

    with pytest.raises(OSError, match="safetensors"):
        load_policy(folder)


def test_a_policy_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy", num_layers=1)
    deeper = tiny_policy(num_layers=2)
    deeper.config.save_pretrained(folder)

    with pytest.raises(ValueError, match=r"has no weights for model\.layers\.1\."):
        load_policy(folder)


def test_dropout_in_a_config_is_turned_off(tmp_path: Path) -> None:
    model = tiny_policy()
    model.config.attention_dropout = 0.5
    save_model(model, tiny_tokenizer(), tmp_path / "policy")

    loaded = load_policy(tmp_path / "policy").train()

    assert torch.equal(response_logprobs(loaded, BATCH), response_logprobs(loaded, BATCH))


def test_wherever_weights_lie_in_their_file_they_lie_evenly_in_memory(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")
    for length in range(0, 64, 8):  # of the file's header, behind which the weights begin
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file(tensors, path, metadata={"format": "pt", "padding": "x" * length})

        policy = load_policy(folder)

        assert all(weight.data_ptr() % 64 == 0 for weight in policy.parameters())
        for name, weight in policy.state_dict().items():
            assert torch.equal(weight, tensors[name])


def test_weights_are_loaded_in_the_type_asked_for(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")

    assert load_policy(folder, dtype=torch.bfloat16).dtype is torch.bfloat16


def test_devices_and_types_are_named_in_configs() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda"}
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="dtype: 'float16' is not one of float32, bfloat16"):
        resolve_dtype("float16")
    with pytest.raises(ValueError, match="device: 'tpu' is not one of auto, cpu, cuda"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: cuda was asked for"):
            resolve_device("cuda")


def test_on_the_meta_device_a_model_has_its_shape_and_no_weights(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")
    empty, whole = load_policy(folder, device="meta"), load_policy(folder)
    assert all(parameter.is_meta for parameter in empty.parameters())
    shapes = {name: tensor.shape for name, tensor in whole.state_dict().items()}
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == shapes
    empty, whole = (
        load_policy(folder, dtype=torch.bfloat16, device=device) for device in ("meta", "cpu")
    )
    types = [tensor.dtype for tensor in (*whole.parameters(), *whole.buffers())]
    assert set(types) == {torch.bfloat16, torch.float32}  # rotary frequencies stay in float32
    assert [tensor.dtype for tensor in (*empty.parameters(), *empty.buffers())] == types


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(torch.cuda.device_count() + 1))
    with pytest.raises(ValueError, match=r"num_processes: \d+ is above the number of GPUs"):
        own_gpu()
