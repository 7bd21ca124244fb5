"""Dialogues held with a policy: the user's turns are given, its responses are sampled."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, decode_response, encode_prompt
from language.engines import Engine
from language.generation import GeneratedResponse, GenerationRequest
from language.tokenizers import eos_id_of
from records.run_configs import SamplingConfig
from records.scripts import Script


class Spoken(NamedTuple):
    """One response of a dialogue that was held."""

    text: str
    ids: tuple[int, ...]
    """As the engine gave them, the end token included where there is one."""
    is_finished: bool
    """Whether it ended by itself."""


class Candidates(NamedTuple):
    """The responses sampled for one turn of one dialogue."""

    prompt_ids: tuple[int, ...]
    responses: list[GeneratedResponse]


Choose = Callable[[Sequence[Candidates]], Sequence[int]]
"""Returns, for each of some turns, the place of the response that the dialogue goes on with."""


def first_of_each(candidates: Sequence[Candidates]) -> list[int]:
    """Go on with the first response: what to do where only one is sampled."""
    return [0] * len(candidates)


def hold_conversations(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    scripts: Sequence[Script],
    *,
    sampling: SamplingConfig,
    seed_of: Callable[[int, int], int],
    num_responses: int = 1,
    choose: Choose = first_of_each,
    rows_per_batch: int = 256,
    on_turn: Callable[[int], None] | None = None,
) -> list[list[Spoken]]:
    """Return the policy's responses to each script, turn by turn, all dialogues side by side.

    A dialogue ends before its script does where the next prompt and response would not fit into the
    model's positions, or where a text holds a tag of the chat format. Nothing is ever left out of a
    prompt: the first turn stays in sight.

    Args:
        engine: Answers.
        tokenizer: Of its policy.
        scripts: What users say.
        sampling: How responses are drawn.
        seed_of: Returns the seed of a response, by the places of its script and its turn.
        num_responses: Sampled per turn.
        choose: Says which of them the dialogue goes on with.
        rows_per_batch: Responses sampled at once.
        on_turn: Is told the number of each turn once all dialogues have taken it.
    """
    room = engine.limits.max_positions - sampling.max_new_tokens
    spoken: list[list[Spoken]] = [[] for _ in scripts]
    for turn in range(max((len(script.turns) for script in scripts), default=0)):
        requests: dict[int, GenerationRequest] = {}
        for place, script in enumerate(scripts):
            if len(spoken[place]) == turn < len(script.turns):
                texts = [response.text for response in spoken[place]]
                ids = _prompt_ids(tokenizer, script, texts, room=room)
                if ids is not None:
                    requests[place] = GenerationRequest(
                        prompt_ids=ids,
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_new_tokens=sampling.max_new_tokens,
                        seed=seed_of(place, turn),
                        num_responses=num_responses,
                    )
        generated = engine.generate(
            list(requests.values()),
            eos_ids=[eos_id_of(tokenizer)],
            rows_per_batch=rows_per_batch,
        )
        candidates = [
            Candidates(request.prompt_ids, responses)
            for request, responses in zip(requests.values(), generated, strict=True)
        ]
        chosen = choose(candidates)
        for place, item, index in zip(requests, candidates, chosen, strict=True):
            response = item.responses[index]
            text = decode_response(tokenizer, response.ids)
            spoken[place].append(Spoken(text, response.ids, response.is_finished))
        if on_turn is not None:
            on_turn(turn + 1)
    return spoken


def _prompt_ids(
    tokenizer: PreTrainedTokenizerBase, script: Script, responses: Sequence[str], *, room: int
) -> tuple[int, ...] | None:
    """Return the ids of the next prompt; None where it does not fit or holds a tag."""
    try:
        ids = encode_prompt(tokenizer, script.prompt(responses))
    except TagInjectionError:
        return None
    return tuple(ids) if len(ids) <= room else None
