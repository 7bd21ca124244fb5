"""Pre-training: every token counts, and a policy comes out that others can load."""

from dataclasses import replace
from pathlib import Path

import pytest

from language.chat import encode_dialogue
from language.models import load_policy
from language.runs import RunContext, RunStopped
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.pretrain import pretrain, whole_row
from records.policy_configs import PretrainConfig
from records.prompts import write_demonstrations
from records.run_configs import ModelShape, RunKind
from records.rundirs import RunDirectory
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    demonstrations,
    metrics_of,
    only,
    row,
    write_inputs,
)

CONFIG = PretrainConfig(
    seed=1,
    device="cpu",
    shape=ModelShape(hidden_size=32, intermediate_size=64, num_layers=2, max_positions=128),
    vocabulary_size=330,
    num_epochs=4.0,
    tokens_per_batch=200,
    checkpoint_every=4,
    optimizer=LEARNING,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return only(write_inputs(tmp_path_factory.mktemp("inputs")), "demonstrations")


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory, spec = create_run(
        tmp_path_factory.mktemp("runs") / "whole", RunKind.PRETRAIN, CONFIG, inputs
    )
    pretrain(directory, spec, RunContext(directory, CONFIG))
    return directory


def test_every_token_but_the_first_has_a_loss() -> None:
    assert whole_row(row([1, 5, 6], [7, 2])) == row([1], [5, 6, 7, 2])


def test_the_loss_falls(finished: RunDirectory) -> None:
    losses = [values["loss"] for values in metrics_of(finished)]
    assert losses[-1] < losses[0] - 1.5
    result = finished.read_result()
    assert result is not None
    last = losses[-20:]
    assert result["summary"]["loss"] == pytest.approx(sum(last) / len(last))


def test_every_token_of_the_corpus_is_learned_once_an_epoch(finished: RunDirectory) -> None:
    tokenizer = load_tokenizer(finished.outputs / "policy")
    lengths = [
        len(encode_dialogue(tokenizer, item.prompt.followed_by(item.response)).ids)
        for item in demonstrations()
    ]
    learned = sum(values["response_tokens"] for values in metrics_of(finished))
    assert learned == 4 * sum(length - 1 for length in lengths)
    assert all(values["response_tokens"] <= 200 for values in metrics_of(finished))


def test_the_policy_has_the_shape_asked_for(finished: RunDirectory) -> None:
    policy = load_policy(finished.outputs / "policy")
    assert policy.config.hidden_size == 32
    assert policy.config.max_position_embeddings == 128
    assert policy.config.vocab_size <= 330


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.PRETRAIN, CONFIG, inputs)
    with pytest.raises(RunStopped):
        pretrain(directory, spec, StopAfter(directory, CONFIG, steps=5))
    pretrain(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")


def test_a_second_base_takes_the_tokenizer_it_is_given(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    first = finished.outputs / "policy"
    write_demonstrations(tmp_path / "others.jsonl", demonstrations()[:2])
    config = replace(CONFIG, seed=2, num_epochs=0.5)
    others = {"demonstrations": tmp_path / "others.jsonl"}
    digests = []
    for name, chosen in (("own", others), ("given", {**others, "tokenizer": first})):
        directory, spec = create_run(tmp_path / name, RunKind.PRETRAIN, config, chosen)
        pretrain(directory, spec, RunContext(directory, config))
        digests.append(tokenizer_digest(load_tokenizer(directory.outputs / "policy")))
    assert digests[0] != tokenizer_digest(load_tokenizer(first)) == digests[1]


def test_another_seed_makes_another_policy(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    config = replace(CONFIG, seed=2, num_epochs=0.5)
    directory, spec = create_run(tmp_path / "run", RunKind.PRETRAIN, config, inputs)
    pretrain(directory, spec, RunContext(directory, config))
    assert metrics_of(directory)[0]["loss"] != metrics_of(finished)[0]["loss"]
