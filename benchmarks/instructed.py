"""A policy of the sandbox that heeds instructions and preprompts: what two experiments start from.

Runs lie in `.concord/bench/instructed`, where the next start finds those that are finished.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from benchmarks.finished import finished_run
from benchmarks.frame import HOME
from records.dialogues import Dialogue
from records.policy_configs import PretrainConfig, SFTConfig
from records.prompts import Demonstration, write_demonstrations
from records.run_configs import ModelShape, OptimizerConfig, RunConfig
from records.rundirs import RunDirectory
from simulation.instructed import sample_instructed_corpus

FOLDER = HOME / "instructed"
NUM_DIALOGUES, NUM_DEMONSTRATIONS = 3500, 300
_SHAPE = ModelShape(
    hidden_size=64, intermediate_size=176, num_layers=3, num_heads=4, max_positions=1024
)
"""Enough for this language, and small enough for a quarter of an hour on one core."""
FINETUNING = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8)
"""Small models want larger steps than the paper's 2e-5, and Adam's usual epsilon."""


def finished(name: str, config: RunConfig, inputs: Mapping[str, Path]) -> RunDirectory:
    """Return the run called `name`, done now where it is not there, or there with another config.

    One that was cut off goes on from its last checkpoint.
    """
    return finished_run(FOLDER / name, config, inputs)


def instructed_policy() -> Path:
    """Return the SFT policy: it obeys the newest turn, and knows safety preprompts."""
    corpus = _written("corpus", (_whole(d) for d in sample_instructed_corpus(1, NUM_DIALOGUES)))
    config = PretrainConfig(
        shape=_SHAPE,
        max_tokens=768,
        tokens_per_batch=1024,
        num_threads=1,
        device="cpu",
    )
    base = finished("base", config, {"demonstrations": corpus}).outputs / "policy"
    chosen = _written("demonstrations", islice(_demonstrations(), NUM_DEMONSTRATIONS))
    tuning = SFTConfig(
        num_epochs=1, max_tokens=512, num_threads=1, device="cpu", optimizer=FINETUNING
    )
    return finished("sft", tuning, {"policy": base, "demonstrations": chosen}).outputs / "policy"


def demonstrations_path() -> Path:
    """Return the file of demonstrations that the SFT policy has learned from."""
    return FOLDER / "demonstrations.jsonl"


def _whole(dialogue: Dialogue) -> Demonstration:
    prompt = Dialogue(dialogue.turns[:-1], system=dialogue.system)
    return Demonstration(prompt=prompt, response=dialogue.turns[-1].text, source="sandbox")


def _demonstrations() -> Iterator[Demonstration]:
    """Yield the last exchange before the leave-taking of short dialogues, with what went before."""
    for dialogue in sample_instructed_corpus(2, 100 * NUM_DEMONSTRATIONS):
        if len(dialogue.turns) <= 8:
            yield _whole(Dialogue(dialogue.turns[:-2], system=dialogue.system))


def _written(name: str, demonstrations: Iterable[Demonstration]) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.jsonl"
    write_demonstrations(path, demonstrations)
    return path
