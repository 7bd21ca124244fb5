"""What is handed over: the weights of the plain model, announced as they are sent."""

import pytest
import torch
from torch.cuda import nccl

from language.adapters import add_adapters_, plain_state, use_adapter_
from language.handover import describe, join_group
from tests.models import tiny_policy


def test_a_plain_model_is_handed_over_as_it_is() -> None:
    policy = tiny_policy()
    state = plain_state(policy)
    assert state.keys() == policy.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in policy.state_dict().items())


def test_adapters_are_handed_over_merged_while_they_are_in_use() -> None:
    policy = tiny_policy()
    names = list(policy.state_dict())
    before = plain_state(tiny_policy())
    add_adapters_(policy, rank=4, alpha=8, seed=0, name="policy")
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".lora_B" in name:
                parameter.fill_(0.1)
    ids_BT = torch.tensor([[1, 20, 30, 40]])
    with torch.no_grad():
        expected = policy(ids_BT).logits
    merged = tiny_policy(seed=1)
    merged.load_state_dict(plain_state(policy))
    with torch.no_grad():
        torch.testing.assert_close(merged(ids_BT).logits, expected, atol=1e-5, rtol=1e-5)
    assert set(plain_state(policy)) == set(names)

    use_adapter_(policy, None)
    off = plain_state(policy)
    assert all(torch.equal(off[name], tensor) for name, tensor in before.items())
    assert off.keys() == before.keys()


def test_the_announcement_follows_the_order_of_the_weights() -> None:
    weights = {"b": torch.zeros(2, 3), "a": torch.zeros(4, dtype=torch.bfloat16)}
    assert describe(weights) == {
        "names": ["b", "a"],
        "dtype_names": ["float32", "bfloat16"],
        "shapes": [[2, 3], [4]],
    }


@pytest.mark.gpu
def test_a_group_of_one_gpu_opens_and_broadcasts() -> None:
    """The calls of the NCCL path; that vLLM's workers join takes GPUs of their own."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    communicator = join_group(device, 1, nccl.unique_id())
    sent = torch.arange(6.0, device=device).reshape(2, 3)
    nccl.broadcast([sent], 0, comms=[communicator])
    torch.cuda.synchronize()
    assert sent.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
