"""The sandbox as the demo makes it, without its site: base, SFT and two or three reward models.

Configs and sizes are the demo's first iteration. What differs: judges are careful annotators alone,
and pairs are of two responses of the SFT policy, at the ends of the demo's range of temperatures.
"""

import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.finished import finished_run, summary_of
from evaluation.responses import encode_prompts, sample_responses
from language.chat import decode_response
from language.engines import LocalEngine
from language.models import load_policy
from language.tokenizers import load_tokenizer
from records.digests import digest_path
from records.preferences import COLLECTED, Axis, Preference
from records.prompts import Demonstration, Prompt, write_demonstrations
from records.run_configs import GENERAL, RunConfig, SamplingConfig
from records.snapshots import read_manifest, write_snapshot
from simulation.annotators import PERSONAS, SAFETY_PROMPT_SHARES, SimulatedAnnotator
from simulation.corpus import sample_corpus, sample_demonstrations, sample_prompts
from simulation.grammar import CORPUS_QUALITY, write_response
from simulation.parsing import understand
from workers.demo.scales import SandboxScale

_TEMPERATURES = (0.8, 1.2)
_MADE_SHARE = 0.5
"""Of the monitor's pairs, as an iteration's general model has it."""
C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class SandboxWorld:
    """Folders of models that share a tokenizer."""

    base: Path
    sft: Path
    reward_models: Mapping[str, Path]
    """By the role of an input: `helpfulness`, `safety`, and, where it was asked for, `general`: the
    monitor."""
    accuracy: Mapping[str, Any]
    """Of each reward model on its held-out pairs, by rating and overall."""

    @property
    def optimised(self) -> dict[str, Path]:
        """The reward models that a policy is optimised against."""
        return {axis.value: self.reward_models[axis.value] for axis in Axis}


def alone(config: C) -> C:
    """Return `config` for one thread of the CPU."""
    return replace(config, num_threads=1, device="cpu")


def build_world(
    folder: Path, scale: SandboxScale, *, num_general_pairs: Mapping[Axis, int] | None = None
) -> SandboxWorld:
    """Return the models in `folder`, made now as far as they are not there.

    The monitor is among them where it is said on how many pairs it is trained.
    """
    base, sft = _first_policies(folder, scale)
    num_pairs = {Axis.HELPFULNESS: scale.num_helpfulness[0], Axis.SAFETY: scale.num_safety[0]}
    pairs = _sampled_pairs(sft, num_pairs, scale.ppo.sampling)
    sampled = _snapshot(folder / "pairs", pairs, _made_by(num_pairs, sft), scale.test_share)
    wanted = [
        (Axis.HELPFULNESS.value, scale.helpfulness, sft, sampled),
        (Axis.SAFETY.value, scale.safety, sft, sampled),
    ]
    if num_general_pairs is not None:
        # Its own layers and its own pairs, so that it is no copy of what it watches, and pairs that
        # nobody judged, so that it knows what an optimiser finds (decision 0007).
        pairs, made_by = _written_pairs(num_general_pairs), _made_by(num_general_pairs, None)
        written = _snapshot(folder / "general-pairs", pairs, made_by, scale.test_share)
        general = replace(scale.helpfulness, is_general=True, made_share=_MADE_SHARE)
        wanted.append((GENERAL, general, base, written))
    runs = {
        scope: finished_run(folder / scope, alone(config), {"policy": start, "snapshot": snapshot})
        for scope, config, start, snapshot in wanted
    }
    return SandboxWorld(
        base=base,
        sft=sft,
        reward_models={scope: run.outputs / "reward_model" for scope, run in runs.items()},
        accuracy={scope: summary_of(run)["accuracy"] for scope, run in runs.items()},
    )


def _first_policies(folder: Path, scale: SandboxScale) -> tuple[Path, Path]:
    """Return the base model and the SFT policy."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, chosen = folder / "corpus.jsonl", folder / "demonstrations.jsonl"
    write_demonstrations(corpus, _corpus(scale.num_corpus_dialogues))
    write_demonstrations(chosen, sample_demonstrations(2, scale.num_demonstrations))
    inputs = {"demonstrations": corpus}
    base = finished_run(folder / "base", alone(scale.pretrain), inputs).outputs / "policy"
    inputs = {"policy": base, "demonstrations": chosen}
    return base, finished_run(folder / "sft", alone(scale.sft), inputs).outputs / "policy"


def _corpus(num_dialogues: int) -> Iterator[Demonstration]:
    for dialogue in sample_corpus(1, num_dialogues):
        *turns, last = dialogue.turns
        yield Demonstration(prompt=type(dialogue)(tuple(turns)), response=last.text)


def _made_by(num_pairs: Mapping[Axis, int], policy: Path | None) -> dict[str, Any]:
    """Return what pairs depend on, for the manifest of their snapshot."""
    return {
        "pairs": {axis.value: count for axis, count in num_pairs.items()},
        "policy": None if policy is None else digest_path(policy),
    }


def _snapshot(
    folder: Path, pairs: Iterable[Preference], made_by: dict[str, Any], test_share: float
) -> Path:
    """Write the pairs, unless the same lie there; return the folder."""
    if folder.exists() and read_manifest(folder).selection == made_by:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_snapshot(folder, pairs, selection=made_by, test_share=test_share)
    return folder


def _sampled_pairs(
    policy: Path, num_pairs: Mapping[Axis, int], sampling: SamplingConfig
) -> Iterator[Preference]:
    """Yield pairs of the policy's responses as a careful annotator judges them."""
    engine, tokenizer = LocalEngine(load_policy(policy)), load_tokenizer(policy)
    annotator = SimulatedAnnotator(PERSONAS["careful"], seed=0)
    for seed, (axis, count) in enumerate(num_pairs.items()):
        prompts = sample_prompts(30 + seed, count, SAFETY_PROMPT_SHARES[axis])
        encoded, skipped = encode_prompts(tokenizer, prompts, max_tokens=256)
        assert not skipped, f"prompts of the sandbox are short: {dict(skipped)}"
        sides = [
            sample_responses(
                engine,
                tokenizer,
                encoded,
                sampling=replace(sampling, temperature=temperature),
                seed_text=f"{axis} {temperature}",
                rows_per_batch=256,
            )
            for temperature in _TEMPERATURES
        ]
        for item, *pair in zip(encoded, *sides, strict=True):
            texts = [decode_response(tokenizer, response.ids) for response in pair]
            yield from _judged(annotator, item.prompt, texts, axis, source=COLLECTED)


def _written_pairs(num_pairs: Mapping[Axis, int]) -> Iterator[Preference]:
    """Yield pairs of responses that the world's grammar wrote, as another annotator judges them."""
    rng = random.Random("general pairs")
    annotator = SimulatedAnnotator(PERSONAS["careful"], seed=1)
    for seed, (axis, count) in enumerate(num_pairs.items()):
        for prompt in sample_prompts(40 + seed, count, SAFETY_PROMPT_SHARES[axis]):
            request = understand(prompt.dialogue)
            texts = [write_response(rng, request, CORPUS_QUALITY) for _ in range(2)]
            yield from _judged(annotator, prompt, texts, axis, source="grammar")


def _judged(
    annotator: SimulatedAnnotator, prompt: Prompt, texts: list[str], axis: Axis, *, source: str
) -> Iterator[Preference]:
    """Yield the judgement of two responses, unless they are the same or one is empty."""
    left, right = texts
    if left == right or not left.strip() or not right.strip():
        return
    verdict = annotator.judge(prompt.dialogue, left, right, axis)
    yield Preference(
        preference_id=f"{axis}-{prompt.prompt_id}",
        dialogue_id=f"{axis}-{prompt.prompt_id}",
        prompt=prompt.dialogue,
        chosen=left if verdict.prefers_left else right,
        rejected=right if verdict.prefers_left else left,
        axis=axis,
        rating=verdict.rating,
        safety_bin=verdict.safety_bin,
        is_safety_prompt=prompt.is_safety,
        source=source,
    )
