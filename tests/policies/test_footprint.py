"""Bytes: what is counted is what is there, and 7B on one base fits a card of 24 GB."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from language.adapters import inject_adapters_
from language.kept_adapters import AdapterWeights
from language.scalars import share_trunk
from policies.footprint import footprint_of
from policies.networks import adapter_networks
from policies.ppo_models import create_learners
from records.policy_configs import PPOConfig
from tests.models import tiny_policy
from tests.policies.toys import separate

RANK = 16
LLAMA_2_7B = LlamaConfig(
    vocab_size=32_000,
    hidden_size=4096,
    intermediate_size=11_008,
    num_hidden_layers=32,
    num_attention_heads=32,
    max_position_embeddings=4096,
)
NUM_PARAMETERS = 6_738_415_616
# A matrix of m by n gets RANK * (m + n): q, k, v and o are square, gate, up and down are not.
NUM_ADAPTED = 32 * RANK * (4 * (4096 + 4096) + 3 * (4096 + 11_008))


def shapes_of_a_reward_model() -> AdapterWeights:
    """Return the adapter of a 7B reward model, which has shapes and no numbers."""
    with torch.device("meta"):
        model = LlamaForSequenceClassification(
            LlamaConfig(**LLAMA_2_7B.to_dict() | {"num_labels": 1})
        )
    inject_adapters_(model, rank=RANK, alpha=32, name="default", is_empty=True)
    tensors = {
        path.replace(".default.", "."): parameter.detach()
        for path, parameter in model.named_parameters()
        if "lora_" in path or path == "score.weight"
    }
    return AdapterWeights(tensors, RANK, 32)


def test_policy_value_reference_and_three_reward_models_of_7b_fit_24_gb() -> None:
    with torch.device("meta"):
        base = LlamaForCausalLM(LLAMA_2_7B)
    reward_model = shapes_of_a_reward_model()
    networks = adapter_networks(
        base,
        rank=RANK,
        alpha=32,
        seed=0,
        value_start=reward_model,
        reward_models=dict.fromkeys(("helpfulness", "safety", "general"), reward_model),
        dtype=torch.bfloat16,
        checkpoint_activations=True,
    )
    footprint = footprint_of(networks)
    # The base in bfloat16; five adapters and four heads in float32.
    assert footprint.weights == 2 * NUM_PARAMETERS + 4 * (5 * NUM_ADAPTED + 4 * 4096)
    # Policy and value model learn.
    assert footprint.gradients == 4 * (2 * NUM_ADAPTED + 4096)
    assert footprint.moments == 2 * footprint.gradients
    assert 15.2e9 < footprint.total < 15.3e9

    # Sampling, 16 rows of 512 tokens: keys and values of 32 layers, 4096 numbers of 2 bytes each.
    cache = 16 * 512 * 2 * 32 * 4096 * 2
    # Training, 2,048 tokens at once: the inputs of 32 layers in bfloat16; and one layer computed
    # again, at most 32 numbers of hidden and 16 of intermediate size a token in float32, which
    # adapters compute in; and three times the logits that are held at once.
    activations = 2048 * (32 * 4096 * 2 + 4 * (32 * 4096 + 16 * 11_008)) + 3 * 4 * 2**26
    assert footprint.total + max(cache, activations) < 20e9


def test_what_is_counted_is_what_the_optimizers_hold() -> None:
    policy, other = tiny_policy(), tiny_policy()
    networks = separate(policy, share_trunk(other), tiny_policy(), dtype=torch.bfloat16)
    footprint = footprint_of(networks)
    learners = create_learners(networks, PPOConfig())
    for learner, parameters in zip(
        learners, (networks.policy_parameters, networks.value_parameters), strict=True
    ):
        for parameter in parameters.values():
            parameter.grad = torch.ones_like(parameter)
        gradients = sum(p.grad.nbytes for p in parameters.values() if p.grad is not None)
        learner.optimizer.step()
        moments = sum(
            value.nbytes
            for state in learner.optimizer.state.values()
            for name, value in state.items()
            if name != "step"
        )
        footprint = footprint._replace(
            gradients=footprint.gradients - gradients, moments=footprint.moments - moments
        )
    assert (footprint.gradients, footprint.moments) == (0, 0)
    # Policy and value model in float32 and bfloat16, the reference in the float32 it came in.
    decoder = sum(p.numel() for p in other.model.parameters())
    whole = decoder + policy.lm_head.weight.numel()
    assert footprint.weights == (4 + 2) * (whole + decoder + 32) + 4 * whole
