"""Sampling from a policy: equal to the model itself, row by row, whatever the batch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from language import decoding, products, projections, prompt_cache
from language.generation import GenerationRequest, generate
from language.models import create_policy
from language.static_steps import create_stepping
from records.run_configs import ModelShape
from tests.language.asking import ENDS, EOS, largest_error, ragged_requests, request
from tests.models import tiny_policy, tiny_tokenizer


def grouped_policy() -> LlamaForCausalLM:
    """Return a Llama whose query heads share key heads, with Llama 3's rotary scaling."""
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("rows_per_batch", [5, 256])
@pytest.mark.parametrize("make", [tiny_policy, grouped_policy])
def test_logprobs_equal_a_full_forward_pass(
    make: Callable[[], LlamaForCausalLM], rows_per_batch: int
) -> None:
    model, requests = make(), ragged_requests()

    responses = generate(model, requests, eos_ids=ENDS, rows_per_batch=rows_per_batch)

    assert largest_error(model, requests, responses) < 1e-5


def test_one_row_a_prompt_needs_no_grid_and_agrees_too() -> None:
    model = tiny_policy()
    requests = [asked._replace(num_responses=1) for asked in ragged_requests()]

    responses = generate(model, requests, eos_ids=ENDS)

    assert largest_error(model, requests, responses) < 1e-5


def test_each_response_has_its_logprobs_as_sampled_and_at_temperature_1() -> None:
    model, requests = tiny_policy(), ragged_requests()

    responses = generate(model, requests, eos_ids=ENDS)

    for asked, given in zip(requests, responses, strict=True):
        for response in given:
            ids = torch.tensor([[*asked.prompt_ids, *response.ids]])
            with torch.no_grad():
                logits_RV = model(ids).logits[0, len(asked.prompt_ids) - 1 : -1]
            ids_R1 = torch.tensor(response.ids)[:, None]
            untempered = logits_RV.log_softmax(1).gather(1, ids_R1)[:, 0]
            torch.testing.assert_close(
                torch.tensor(response.untempered_logprobs), untempered, rtol=0, atol=1e-5
            )
            sampled = sampling_logprobs(logits_RV, asked).gather(1, ids_R1)[:, 0]
            torch.testing.assert_close(
                torch.tensor(response.sampling_logprobs), sampled, rtol=0, atol=1e-5
            )


def sampling_logprobs(logits_RV: torch.Tensor, asked: GenerationRequest) -> torch.Tensor:
    """Return the distribution a request draws from, by sorting: another way than the engine's."""
    if asked.temperature == 0.0:
        likeliest_R = logits_RV.argmax(1)
        return torch.nn.functional.one_hot(likeliest_R, logits_RV.shape[1]).float().log()
    probabilities_RV = (logits_RV.double() / asked.temperature).softmax(1)
    sorted_RV, order_RV = probabilities_RV.sort(dim=1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(1) - sorted_RV
    kept_RV = torch.where(before_RV <= asked.top_p, sorted_RV, 0.0)
    nucleus_RV = torch.zeros_like(sorted_RV).scatter(1, order_RV, kept_RV)
    return (nucleus_RV / nucleus_RV.sum(1, keepdim=True)).log().float()


def test_responses_end_at_the_first_end_token_or_at_the_limit() -> None:
    requests = ragged_requests()

    responses = generate(tiny_policy(), requests, eos_ids=ENDS)

    finished = 0
    for asked, given in zip(requests, responses, strict=True):
        assert len(given) == asked.num_responses
        for response in given:
            assert len(response.ids) == len(response.logprobs)
            assert not set(response.ids[:-1]) & set(ENDS)
            assert response.is_finished == (response.ids[-1] in ENDS)
            assert response.is_finished or len(response.ids) == asked.max_new_tokens
            assert len(response.ids) <= asked.max_new_tokens
            finished += response.is_finished
    assert 0 < finished < sum(asked.num_responses for asked in requests)


def test_each_of_several_end_tokens_stops_a_response() -> None:
    asked = request(1, 20, num_responses=200, max_new_tokens=40, temperature=1.5)

    (responses,) = generate(tiny_policy(), [asked], eos_ids=[EOS, 77, 123, 200])

    last = {response.ids[-1] for response in responses if response.is_finished}
    assert last == {EOS, 77, 123, 200}


def test_an_end_token_on_the_last_step_finishes_the_response() -> None:
    asked = request(1, 20, temperature=0.0, max_new_tokens=5)
    ((free,),) = generate(tiny_policy(), [asked], eos_ids=[EOS])

    ((response,),) = generate(tiny_policy(), [asked], eos_ids=[free.ids[4]])
    expected = free.ids[: free.ids.index(free.ids[4]) + 1]

    assert response.ids == expected
    assert response.is_finished


def test_more_responses_begin_with_the_same_ones() -> None:
    few, many = request(1, 20, num_responses=2), request(1, 20, num_responses=7)

    first, second = generate(tiny_policy(), [few, many], eos_ids=[EOS])

    assert [response.ids for response in second[:2]] == [response.ids for response in first]


def test_greedy_equals_transformers_generate() -> None:
    model = tiny_policy()
    model.generation_config.pad_token_id = 3
    requests = [request(*ids, temperature=0.0) for ids in ((1, 20, 30), (1, 99), (1, 5, 6, 7, 8))]

    responses = generate(model, requests, eos_ids=[EOS])

    for asked, (response,) in zip(requests, responses, strict=True):
        theirs = model.generate(
            torch.tensor([asked.prompt_ids]), max_new_tokens=16, do_sample=False, eos_token_id=EOS
        )
        assert list(response.ids) == theirs[0, len(asked.prompt_ids) :].tolist()


def test_sampling_is_not_greedy() -> None:
    (responses,) = generate(tiny_policy(), [request(1, 20, num_responses=4)], eos_ids=[EOS])

    assert len({response.ids for response in responses}) == 4


def test_other_seeds_give_other_responses_and_the_same_seed_the_same() -> None:
    asked = [request(1, 20, seed=seed) for seed in (1, 2, 1)]

    (first,), (second,), (third,) = generate(tiny_policy(), asked, eos_ids=[EOS])

    assert first == third
    assert first.ids != second.ids


def test_the_generators_of_torch_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first = generate(tiny_policy(), [request(1, 20)], eos_ids=[EOS])
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))

    assert generate(tiny_policy(), [request(1, 20)], eos_ids=[EOS]) == first


def test_the_first_token_is_drawn_from_the_models_distribution_without_hidden_filters() -> None:
    model, num = tiny_policy(), 20_000
    asked = request(1, 20, 30, num_responses=num, max_new_tokens=1, temperature=0.4)

    (responses,) = generate(model, [asked], eos_ids=[EOS], rows_per_batch=num)

    with torch.no_grad():
        logits = model(torch.tensor([[1, 20, 30]])).logits[0, -1] / 0.4
    probabilities = logits.softmax(0).double()
    counts = torch.tensor([response.ids[0] for response in responses]).bincount(minlength=384)
    deviation = (num * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - num * probabilities).abs() < 5 * deviation + 1).all()
    assert len(counts.nonzero()) > 300, "no top-k is applied unasked"


def test_a_sample_of_one_token_from_top_p_keeps_its_own_probability() -> None:
    asked = request(1, 20, top_p=1e-6, max_new_tokens=4)

    ((response,),) = generate(tiny_policy(), [asked], eos_ids=[EOS])

    assert all(logprob < -1.0 for logprob in response.logprobs)


def test_changed_weights_are_used_at_once() -> None:
    model = tiny_policy(seed=0)
    asked = [request(1, 20, num_responses=3)]
    generate(model, asked, eos_ids=[EOS])

    with torch.no_grad():
        for mine, other in zip(model.parameters(), tiny_policy(seed=5).parameters(), strict=True):
            mine.copy_(other)

    assert generate(model, asked, eos_ids=[EOS]) == generate(
        tiny_policy(seed=5), asked, eos_ids=[EOS]
    )


def test_a_bfloat16_policy_answers_like_its_own_forward_pass() -> None:
    model = tiny_policy().to(torch.bfloat16)
    requests = ragged_requests(6)

    responses = generate(model, requests, eos_ids=ENDS)

    assert largest_error(model, requests, responses) < 0.02


def test_a_bfloat16_policy_whose_weights_cannot_be_packed_does_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "can_pack", lambda _: False)
    model, requests = tiny_policy().to(torch.bfloat16), ragged_requests(6)

    assert largest_error(model, requests, generate(model, requests, eos_ids=ENDS)) < 0.02


@pytest.mark.parametrize("large", [1, 2**62])
def test_packed_weights_and_transposed_ones_answer_alike(
    large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_LARGE", large)
    model, requests = grouped_policy(), ragged_requests(40)

    assert largest_error(model, requests, generate(model, requests, eos_ids=ENDS)) < 1e-5


@pytest.mark.parametrize("name", ["plain", "static"])
def test_keys_held_as_on_a_gpu_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "_is_by_component", lambda _device: False)
    model, requests = grouped_policy(), ragged_requests()
    stepping = create_stepping(torch.device("cpu"), name)

    responses = generate(model, requests, eos_ids=ENDS, rows_per_batch=5, stepping=stepping)

    assert largest_error(model, requests, responses) < 1e-5


def test_an_adapted_projection_is_used_as_it_is() -> None:
    class Doubled(torch.nn.Linear):
        """A projection that is more than its matrix."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(x)

    model = tiny_policy()
    for layer in model.model.layers:
        for block, name in (
            (layer.self_attn, "q_proj"),
            (layer.self_attn, "o_proj"),
            (layer.mlp, "down_proj"),
        ):
            plain = getattr(block, name)
            adapted = Doubled(plain.in_features, plain.out_features, bias=False)
            adapted.weight = plain.weight
            setattr(block, name, adapted)
    requests = ragged_requests(6)

    assert largest_error(model, requests, generate(model, requests, eos_ids=ENDS)) < 1e-5


def test_large_models_keep_their_projections_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "_FUSED_WEIGHTS", 0)
    monkeypatch.setattr(decoding, "_PREFILL_TOKENS", 40)
    model, requests = tiny_policy(), ragged_requests()

    assert largest_error(model, requests, generate(model, requests, eos_ids=ENDS)) < 1e-5


def test_progress_reaches_the_number_of_responses() -> None:
    seen: list[tuple[int, int]] = []

    generate(
        tiny_policy(),
        [request(1, 20, num_responses=5), request(1, 21)],
        eos_ids=[EOS],
        rows_per_batch=2,
        on_progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(num, 6) for num in range(1, 7)]


def test_no_requests_give_no_responses() -> None:
    assert generate(tiny_policy(), [], eos_ids=[EOS]) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(), r"requests\[0\]\.prompt_ids: must not be empty"),
        (request(1, temperature=-0.1), r"requests\[0\]\.temperature: -0\.1 is below 0"),
        (request(1, top_p=0.0), r"requests\[0\]\.top_p: 0\.0 is outside \(0, 1\]"),
        (request(1, max_new_tokens=0), r"requests\[0\]\.max_new_tokens: must be at least 1"),
        (request(1, num_responses=0), r"requests\[0\]\.num_responses: must be at least 1"),
        (request(1, max_new_tokens=256), "1 prompt tokens and 256 new ones exceed the model's 256"),
    ],
)
def test_a_request_out_of_bounds_is_refused(asked: GenerationRequest, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tiny_policy(), [asked], eos_ids=[EOS])


def test_end_tokens_are_needed_and_must_be_in_the_vocabulary() -> None:
    with pytest.raises(ValueError, match="eos_ids: at least one end token is needed"):
        generate(tiny_policy(), [request(1)], eos_ids=[])
    with pytest.raises(ValueError, match=r"eos_ids: 384 is outside the vocabulary of 384"):
        generate(tiny_policy(), [request(1)], eos_ids=[384])


def test_a_rotary_embedding_that_depends_on_the_length_is_refused() -> None:
    model = tiny_policy()
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}

    with pytest.raises(ValueError, match="rope_type: 'dynamic'"):
        generate(model, [request(1)], eos_ids=[EOS])


def test_a_deeper_policy_than_the_tests_usual_one_agrees_too() -> None:
    shape = ModelShape(hidden_size=64, intermediate_size=96, num_layers=5, num_heads=8)
    model = create_policy(replace(shape, max_positions=128), tiny_tokenizer(), seed=9)
    requests = ragged_requests(5)

    assert largest_error(model, requests, generate(model, requests, eos_ids=ENDS)) < 1e-5
