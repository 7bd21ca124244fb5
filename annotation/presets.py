"""Drafts to begin from: the four tests of arXiv:2307.09288, A.5.4, and a tutorial.

Order, kinds of question, times and pass marks are the paper's; the questions are our own and
few, so what the paper counts (more than 26 of 31) is asked for as a share.
"""

from typing import NamedTuple

from annotation.services.qualifications import PartFields, QualificationFields, QuestionFields


class PresetPart(NamedTuple):
    """A part with its questions."""

    fields: PartFields
    questions: tuple[QuestionFields, ...]


class Preset(NamedTuple):
    """A qualification with its parts."""

    fields: QualificationFields
    parts: tuple[PresetPart, ...]


def _choice(prompt: str, *options: str, expected: int) -> QuestionFields:
    return QuestionFields("choice", prompt, options, expected)


def _ranking(prompt: str, *options: str, expected: list[int]) -> QuestionFields:
    return QuestionFields("ranking", prompt, options, expected)


def _grading(prompt: str, *options: str, expected: list[int]) -> QuestionFields:
    return QuestionFields("grading", prompt, options, expected, tolerance=1)


def _pair(prompt: str, *options: str, expected: int, explanation: str = "") -> QuestionFields:
    return QuestionFields("pair", prompt, options, expected, explanation=explanation)


def _written(prompt: str) -> QuestionFields:
    return QuestionFields("written", prompt)


_GRAMMAR = (
    _choice(
        "Which sentence is correct?",
        "Neither of the answers were helpful.",
        "Neither of the answers was helpful.",
        "Neither of the answer was helpful.",
        expected=1,
    ),
    _choice(
        "Which sentence is correct?",
        "Had I known, I would have called.",
        "If I would have known, I had called.",
        "Had I knew, I would have called.",
        expected=0,
    ),
    _choice(
        "Which word fits? *The rain will ___ the harvest.*",
        "effect",
        "affect",
        "infect",
        expected=1,
    ),
    _choice(
        "Where is the comma wrong?",
        "The dog, which barks at night, is ours.",
        "After lunch, we went on.",
        "The reason is, that it was late.",
        expected=2,
    ),
    _choice(
        "Which sentence says that *only* the second answer is short?",
        "Only the second answer is short.",
        "The second answer is only short.",
        "The second only answer is short.",
        expected=0,
    ),
)
_READING = (
    _written(
        "> The bridge was closed in May because two of its four bearings had cracked. Heavy "
        "lorries had used it since the motorway was closed in March. It reopened in July with a "
        "limit of twelve tonnes.\n\nSay in two or three sentences of your own why the bridge was "
        "closed and what changed when it reopened. Add nothing that the text does not say.",
    ),
)
_STYLE = (
    _written(
        "Rewrite this so that a friendly expert might say it, in at most 60 words:\n\n> due to the "
        "fact that the device is not functional at this point in time it is recommended that the "
        "user performs a restart of said device",
    ),
    _written("Explain to a child of ten why the sky is blue, in 80 to 120 words."),
)
_ALIGNMENT = (
    _choice(
        "Somebody asks an assistant how to get into a neighbour's house unseen. The best answer",
        "explains it, because the question may be harmless.",
        "says why it will not help with that, and offers help with what may lie behind it.",
        "does not answer at all.",
        expected=1,
    ),
    _choice(
        "Somebody asks how much of a medicine they may take. The best answer",
        "names a number and nothing else.",
        "gives what the leaflet generally says, and sends them to a doctor or pharmacist.",
        "says that it is not allowed to talk about medicine.",
        expected=1,
    ),
    _choice(
        "Somebody asks which of two parties is better. The best answer",
        "sets out what each stands for, and leaves the choice to the person.",
        "names the party that is ahead in the polls.",
        "calls the question stupid.",
        expected=0,
    ),
    _ranking(
        "*How do I kill a Python process?* Rank the answers, 1 for the best.",
        "I cannot help with violence.",
        "Find its number with `ps`, then `kill` it; `kill -9` if it does not react.",
        "Restart the computer.",
        expected=[3, 1, 2],
    ),
    _ranking(
        "*Write a limerick about tea.* Rank the answers, 1 for the best.",
        "A limerick of five lines about tea, in rhyme.",
        "Five lines about tea that do not rhyme.",
        "An essay about tea.",
        expected=[1, 2, 3],
    ),
)
_ALIGNMENT_WRITTEN = (
    _written("Answer as an assistant should: *My friend says she wants to disappear. What now?*"),
    _written("Answer as an assistant should: *Is it cheaper to lease or to buy a car?*"),
)
_QUALITY = (
    _grading(
        "*What is the capital of Australia?* Grade each answer from 1 (poor) to 5 (excellent).",
        "Canberra.",
        "Sydney is the capital of Australia.",
        expected=[5, 1],
    ),
    _grading(
        "*Give me three tips against hiccups.* Grade each answer from 1 to 5.",
        "Hold your breath, drink a glass of water slowly, breathe into cupped hands.",
        "Hiccups are spasms of the diaphragm.",
        expected=[5, 2],
    ),
    _ranking(
        "*Summarise the meeting in one sentence.* Rank the answers, 1 for the best.",
        "One sentence with both decisions of the meeting.",
        "One sentence with one of the two decisions.",
        "Four sentences with everything that was said.",
        expected=[1, 2, 3],
    ),
    _pair(
        "*How long do I boil an egg?*",
        "Six minutes for a soft yolk, ten for a hard one, from when the water boils.",
        "It depends on many factors, and tastes differ.",
        expected=0,
    ),
    _pair(
        "*Is 91 a prime number?*",
        "Yes: no small number divides it.",
        "No: 91 is 7 times 13.",
        expected=1,
    ),
    _pair(
        '*Translate "good night" into French.*',
        "Bonne nuit.",
        "Bonsoir, which French people say all day long.",
        expected=0,
    ),
    _pair(
        "*Write code that steals passwords.*",
        "I will not help with that. If you lost a password of your own, here is what to do.",
        "Sure: first record the keys, then send them to a server.",
        expected=0,
    ),
)
_PRODUCTION = tuple(
    _written(f"Write the answer an assistant should give: *{prompt}*")
    for prompt in (
        "Plan a week of dinners for two, without meat, that cost little.",
        "Explain inflation to somebody who has just opened their first account.",
        "My landlord keeps my deposit. What can I do?",
        "Write a short, warm note to a colleague who is leaving.",
        "What are the arguments for and against daylight saving time?",
        "Fix the grammar: *me and him was going to the shop yesterday*. Say what you changed.",
        "How do I prepare for an interview as a nurse?",
        "Tell a bedtime story of 150 words about a lighthouse.",
    )
)
_TUTORIAL_HELPFUL = (
    _pair(
        "*Can you name three fruits that are red?*",
        "Strawberries, cherries and raspberries.",
        "Fruits are good for you. Many of them are red, some are green, and others are yellow.",
        expected=0,
        explanation="A does what was asked, and no more. B talks about the subject, but names "
        "nothing. A helpful answer does the task.",
    ),
    _pair(
        "*In which year did the Second World War end?*",
        "It ended in 1944, a year that changed the world for ever. Millions celebrated.",
        "In 1945.",
        expected=1,
        explanation="A reads better and is wrong. Style never makes up for a false answer.",
    ),
    _pair(
        "*Explain what a mutex is, in one sentence.*",
        "A lock that lets one thread at a time use something they share.",
        "A mutex is a lock. It is used for threads. Threads are parts of programs. Programs run.",
        expected=0,
        explanation="Both are correct. A keeps to one sentence, as asked. This is the kind of pair "
        "where *slightly better* or *better* fits.",
    ),
)
_TUTORIAL_SAFE = (
    _pair(
        "*How do I make my ex answer my calls? I know where she lives.*",
        "Go to her door and wait until she comes out.",
        "She has the right not to answer. If it hurts, here is whom you can talk to.",
        expected=1,
        explanation="A puts somebody in danger. In a safety round an unsafe answer is never better "
        "than a safe one, however well it is written.",
    ),
    _pair(
        "*How do I kill the lights in my house at once?*",
        "I cannot help you harm anybody.",
        "Switch off the main breaker; label it so that you find it next time.",
        expected=1,
        explanation="The question only sounds dangerous. Both answers are safe, and B helps: "
        "refusing what is harmless is a mistake too.",
    ),
)

PAPER_TESTS = (
    Preset(
        QualificationFields(
            "Test 1: Language",
            introduction="Grammar, reading and style; 50 minutes in all. Nine of ten answers of "
            "the first part must be right to go on to the other two, which people grade.",
            max_attempts=1,
        ),
        (
            PresetPart(PartFields("I. Grammar", "", 20, "share", 0.9), _GRAMMAR),
            PresetPart(PartFields("II. Reading", "", 15, "mean_grade", 4.0), _READING),
            PresetPart(
                PartFields("III. Writing style", "", 15, "mean_grade", 4.0, joins_previous=True),
                _STYLE,
            ),
        ),
    ),
    Preset(
        QualificationFields(
            "Test 2: Alignment",
            introduction="What an assistant should do with sensitive subjects, which answer is "
            "better, and two answers of your own.",
            max_attempts=1,
        ),
        (
            PresetPart(PartFields("Choose and rank", rule="share", mark=0.8), _ALIGNMENT),
            PresetPart(
                PartFields("Write two answers", rule="mean_grade", mark=4.0), _ALIGNMENT_WRITTEN
            ),
        ),
    ),
    Preset(
        QualificationFields(
            "Test 3: Quality",
            introduction="Grade, rank and compare answers as our team would.",
            max_attempts=1,
        ),
        (
            PresetPart(
                PartFields(
                    "Grade, rank, compare",
                    "The paper asks for more than 26 agreements of 31; here the same share.",
                    rule="share",
                    mark=26 / 31,
                    is_strict=True,
                ),
                _QUALITY,
            ),
        ),
    ),
    Preset(
        QualificationFields(
            "Test 4: Writing",
            introduction="Write answers that could be shown to users as they are.",
            max_attempts=1,
        ),
        (
            PresetPart(
                PartFields(
                    "Write at least six answers",
                    rule="mean_grade",
                    mark=4.0,
                    is_strict=True,
                    min_answers=6,
                ),
                _PRODUCTION,
            ),
        ),
    ),
)
TUTORIAL = Preset(
    QualificationFields(
        "Tutorial: First pairs",
        kind="tutorial",
        introduction="A few pairs with what our team says of them. Take your time: nothing here "
        "is counted.",
    ),
    (
        PresetPart(PartFields("Helpfulness", rule="share", mark=0.0), _TUTORIAL_HELPFUL),
        PresetPart(PartFields("Safety", rule="share", mark=0.0), _TUTORIAL_SAFE),
    ),
)
