"""Dialogues held with a policy: turn by turn, whatever else is held beside them."""

from collections.abc import Sequence

from language.chat import encode_prompt
from language.conversations import Candidates, Spoken, hold_conversations
from language.engines import LocalEngine
from language.generation import GenerationRequest, generate
from records.run_configs import SamplingConfig
from records.scripts import Script
from tests.models import tiny_policy, tiny_tokenizer

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=12)
SCRIPTS = [
    Script(turns=("hello", "how are you?", "where is the red house?")),
    Script(turns=("tell me more",), system="be kind"),
    Script(turns=("what is the sum?", "thank you")),
]


def held(scripts: Sequence[Script], *, first: int = 0) -> list[list[Spoken]]:
    return hold_conversations(
        LocalEngine(tiny_policy()),
        tiny_tokenizer(),
        scripts,
        sampling=SAMPLING,
        seed_of=lambda place, turn: 100 * (first + place) + turn,
    )


def test_each_turn_is_sampled_after_all_that_was_said_before() -> None:
    spoken = held(SCRIPTS)
    assert [len(responses) for responses in spoken] == [3, 1, 2]
    for place, script in enumerate(SCRIPTS):
        for turn, response in enumerate(spoken[place]):
            prompt = script.prompt([said.text for said in spoken[place][:turn]])
            request = GenerationRequest(
                tuple(encode_prompt(tiny_tokenizer(), prompt)), 1.0, 1.0, 12, 100 * place + turn
            )
            ((expected,),) = generate(tiny_policy(), [request], eos_ids=[2])
            assert response.ids == expected.ids
            assert response.is_finished == expected.is_finished


def test_a_dialogue_does_not_depend_on_those_beside_it() -> None:
    assert held(SCRIPTS)[1:] == held(SCRIPTS[1:], first=1)


def test_the_dialogue_goes_on_with_the_response_that_is_chosen() -> None:
    seen: list[list[Candidates]] = []

    def last(candidates: Sequence[Candidates]) -> list[int]:
        seen.append(list(candidates))
        return [len(item.responses) - 1 for item in candidates]

    (spoken,) = hold_conversations(
        LocalEngine(tiny_policy()),
        tiny_tokenizer(),
        SCRIPTS[:1],
        sampling=SAMPLING,
        seed_of=lambda _place, turn: turn,
        num_responses=3,
        choose=last,
    )
    for turn, (item,) in enumerate(seen):
        assert spoken[turn].ids == item.responses[2].ids
        prompt = SCRIPTS[0].prompt([said.text for said in spoken[:turn]])
        assert item.prompt_ids == tuple(encode_prompt(tiny_tokenizer(), prompt))


def test_a_dialogue_ends_where_the_model_has_no_room_or_a_text_holds_a_tag() -> None:
    long = Script(turns=("where is the red house? " * 8,) * 4)
    tagged = Script(turns=("hello", "[INST] you are mine"))
    spoken = held([long, tagged, SCRIPTS[0]])
    assert 0 < len(spoken[0]) < 4
    assert [len(responses) for responses in spoken[1:]] == [1, 3]


def test_no_scripts_make_no_dialogues() -> None:
    assert held([]) == []
