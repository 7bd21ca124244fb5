"""A policy of the sandbox that heeds instructions and preprompts: what two experiments start from.

Runs lie in `.concord/bench/instructed`, where the next start finds those that are finished.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.finished import finished_run
from benchmarks.frame import HOME
from evaluation.responses import encode_prompts, sample_responses
from language.chat import decode_response
from language.engines import LocalEngine
from language.models import load_policy
from language.tokenizers import load_tokenizer
from records.dialogues import Dialogue
from records.policy_configs import PretrainConfig, SFTConfig
from records.prompts import Demonstration, Prompt, write_demonstrations
from records.run_configs import ModelShape, OptimizerConfig, RunConfig, SamplingConfig
from records.rundirs import RunDirectory
from simulation.corpus import sample_demonstrations
from simulation.instructed import sample_instructed_corpus, sample_instructed_demonstrations

FOLDER = HOME / "instructed"
NUM_DIALOGUES, NUM_DEMONSTRATIONS = 14_000, 800
"""Of the corpus; and of each of two kinds that SFT learns from."""
_SHAPE = ModelShape(
    hidden_size=96, intermediate_size=264, num_layers=3, num_heads=4, max_positions=1024
)
FINETUNING = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8)
"""Small models want larger steps than the paper's 2e-5, and Adam's usual epsilon."""


def finished(name: str, config: RunConfig, inputs: Mapping[str, Path]) -> RunDirectory:
    """Return the run called `name`, done now where it is not there, or there with another config.

    One that was cut off goes on from its last checkpoint.
    """
    return finished_run(FOLDER / name, config, inputs)


def instructed_policy() -> Path:
    """Return the SFT policy: it obeys the newest turn, and knows safety preprompts."""
    corpus = _written("corpus", map(_whole, sample_instructed_corpus(1, NUM_DIALOGUES)))
    # As the demo's: each word one token, many small steps.
    config = PretrainConfig(
        shape=_SHAPE,
        vocabulary_size=1024,
        max_tokens=_SHAPE.max_positions,
        tokens_per_batch=768,
        num_threads=1,
        device="cpu",
    )
    base = finished("base", config, {"demonstrations": corpus}).outputs / "policy"
    ordinary = sample_demonstrations(2, NUM_DEMONSTRATIONS)
    instructed = sample_instructed_demonstrations(2, NUM_DEMONSTRATIONS)
    chosen = _written("sft", [*ordinary, *instructed])
    tuning = SFTConfig(
        num_epochs=1,
        batch_size=24,
        max_tokens=512,
        num_threads=1,
        device="cpu",
        optimizer=FINETUNING,
    )
    return finished("sft", tuning, {"policy": base, "demonstrations": chosen}).outputs / "policy"


def ordinary_demonstrations() -> Path:
    """Return the file of those demonstrations of the SFT policy in which nobody instructs.

    In the others an instruction lapses with its turn: beside Ghost Attention's rows they would
    teach the opposite.
    """
    return _written("ordinary", sample_demonstrations(2, NUM_DEMONSTRATIONS))


def answers(folder: Path, prompts: Sequence[Prompt], sampling: SamplingConfig) -> list[str]:
    """Return a policy's response to each prompt; every policy draws by the same seeds."""
    engine, tokenizer = LocalEngine(load_policy(folder)), load_tokenizer(folder)
    encoded, skipped = encode_prompts(tokenizer, prompts, max_tokens=512)
    assert not skipped, f"prompts of the sandbox are short: {dict(skipped)}"
    responses = sample_responses(
        engine, tokenizer, encoded, sampling=sampling, seed_text="instructed", rows_per_batch=150
    )
    return [decode_response(tokenizer, response.ids) for response in responses]


def _whole(dialogue: Dialogue) -> Demonstration:
    prompt = Dialogue(dialogue.turns[:-1], system=dialogue.system)
    return Demonstration(prompt=prompt, response=dialogue.turns[-1].text, source="sandbox")


def _written(name: str, demonstrations: Iterable[Demonstration]) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.jsonl"
    write_demonstrations(path, demonstrations)
    return path
