"""Import of hh-rlhf: pairs of whole dialogues as text, with every known irregularity counted."""

import re
from pathlib import Path
from typing import NamedTuple

from records.dialogues import Dialogue, Role, Turn
from records.digests import digest_bytes
from records.errors import RecordError
from records.imports import ImportReport, Row, SkippedRowError, json_rows
from records.preferences import Axis, Preference

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_ROLES = {"Human": Role.USER, "Assistant": Role.ASSISTANT}


class HHRLHF(NamedTuple):
    """An imported folder."""

    preferences: list[Preference]
    splits: dict[str, str]
    """Dialogue id to `train` or `test`, from the files' names."""
    report: ImportReport


def parse_dialogue(text: str) -> tuple[list[Turn], bool]:
    """Return the turns of `text`, and whether neighbouring turns of one role were joined.

    Turns begin at a blank line followed by `Human:` or `Assistant:`; the same words inside running
    text are text.

    Raises:
        SkippedRowError: The text does not begin with a human turn.
    """
    parts = _MARKER.split(text)
    if parts[0].strip() or len(parts) < 3 or parts[1] != "Human":
        raise SkippedRowError("does not begin with a human turn")
    turns: list[Turn] = []
    is_joined = False
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        role, body = _ROLES[name], body.strip()
        if turns and turns[-1].role is role:
            turns[-1] = Turn(role, f"{turns[-1].text}\n\n{body}".strip())
            is_joined = True
        else:
            turns.append(Turn(role, body))
    return turns, is_joined


def parse_pair(chosen: str, rejected: str) -> tuple[Dialogue, str, str, bool]:
    """Return (prompt, chosen response, rejected response, whether turns were joined) of one row.

    The prompt is the longest common prefix of the two dialogues.

    Raises:
        SkippedRowError: The two texts are no comparison of two responses to one prompt.
    """
    if chosen == rejected:
        raise SkippedRowError("both sides are identical")
    chosen_turns, is_joined = parse_dialogue(chosen)
    rejected_turns, is_other_joined = parse_dialogue(rejected)
    num_common = 0
    for left, right in zip(chosen_turns, rejected_turns, strict=False):
        if left != right:
            break
        num_common += 1
    endings = (chosen_turns[num_common:], rejected_turns[num_common:])
    if any(len(ending) != 1 or ending[0].role is not Role.ASSISTANT for ending in endings):
        raise SkippedRowError("sides differ before the last response")
    if not endings[0][0].text or not endings[1][0].text:
        raise SkippedRowError("empty response")
    if any(not turn.text for turn in chosen_turns[:num_common]):
        raise SkippedRowError("empty turn in the prompt")
    prompt = Dialogue(tuple(chosen_turns[:num_common]))
    return prompt, endings[0][0].text, endings[1][0].text, is_joined or is_other_joined


def import_hh_rlhf(folder: Path) -> HHRLHF:
    """Import every `train*` and `test*` `.jsonl.gz` below `folder`.

    Files in a folder whose name holds `harmless` are safety comparisons, all others helpfulness.
    Rows of one conversation (same first human turn) share a dialogue id; test rows of a
    conversation that is also in train are skipped, so that nothing leaks.

    Raises:
        RecordError: There is no such file below `folder`, or a line is not a pair.
    """
    files = sorted(folder.rglob("*.jsonl.gz"))
    files = [path for path in files if path.name.startswith(("train", "test"))]
    if not files:
        raise RecordError("data", f"no train*.jsonl.gz or test*.jsonl.gz below {folder}")
    files.sort(key=lambda path: (path.name.startswith("test"), path))
    report = ImportReport()
    splits: dict[str, str] = {}
    preferences: list[Preference] = []
    for path in files:
        split = "test" if path.name.startswith("test") else "train"
        for row in json_rows(path):
            report.num_read += 1
            try:
                preference, is_joined = _preference(folder, row)
                if splits.setdefault(preference.dialogue_id, split) != split:
                    raise SkippedRowError("conversation is also in train")
            except SkippedRowError as error:
                report.skipped[str(error)] += 1
                continue
            report.mended["neighbouring turns of one role joined"] += is_joined
            report.num_kept += 1
            preferences.append(preference)
    return HHRLHF(preferences, splits, report)


def _preference(folder: Path, row: Row) -> tuple[Preference, bool]:
    chosen_text = row.text("chosen", may_be_empty=True)
    rejected_text = row.text("rejected", may_be_empty=True)
    prompt, chosen, rejected, is_joined = parse_pair(chosen_text, rejected_text)
    is_safety = "harmless" in row.path.parent.name
    first_turn = _NOT_ALPHANUMERIC.sub(" ", prompt.turns[0].text.lower()).strip()
    name = row.path.relative_to(folder).as_posix()
    preference = Preference(
        preference_id=f"{name}:{row.line}",
        dialogue_id=digest_bytes(first_turn.encode())[:32],
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        axis=Axis.SAFETY if is_safety else Axis.HELPFULNESS,
        is_safety_prompt=is_safety,
        source=f"hh-rlhf/{row.path.parent.name}",
    )
    return preference, is_joined
