"""Sets of prompts for training and evaluation: given as artifacts, or drawn from a snapshot."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

from annotation.models import Judgement
from records.errors import RecordError
from records.prompts import Prompt, write_prompts
from records.snapshots import read_snapshot
from registry.models import Artifact, Snapshot
from registry.services import publish_artifact

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROWS_AT_ONCE = 1000


class PromptUse(Enum):
    """What prompts are for; sets for different uses share no dialogue."""

    TRAINING = "training"
    HELD_OUT = "held-out"
    EVALUATION = "evaluation"


def prompt_set(digest: str, *, snapshot: Snapshot, use: PromptUse, max_prompts: int) -> Artifact:
    """Return the prompts of `digest`; empty, those that annotators wrote in `snapshot`.

    Training takes the train side; the dialogues of the test side go half to PPO's early stop, half
    to the evaluation. The same snapshot always gives the same prompts.

    Raises:
        RecordError: There are no such prompts.
    """
    if digest:
        artifact = Artifact.objects.filter(digest=digest, kind=Artifact.Kind.PROMPTS).first()
        if artifact is None:
            raise RecordError("prompts", f"there is no artifact of prompts with digest {digest}")
        return artifact
    prompts = sorted(_prompts_of(snapshot, use), key=lambda item: _order(item.prompt_id))
    prompts = _with_risks(prompts[:max_prompts])
    if not prompts:
        message = f"snapshot {snapshot.name} has no prompts for {use.value}; give some as artifact"
        raise RecordError("prompts", message)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        write_prompts(path, prompts)
        return publish_artifact(path=path, kind=Artifact.Kind.PROMPTS)


def _prompts_of(snapshot: Snapshot, use: PromptUse) -> Iterator[Prompt]:
    """Yield each different prompt once."""
    seen: set[str] = set()
    split = "train" if use is PromptUse.TRAINING else "test"
    for preference in read_snapshot(snapshot.artifact.location, split=split):
        text = json.dumps(preference.prompt.to_json(), sort_keys=True)
        if text in seen or not _is_for(use, preference.dialogue_id):
            continue
        seen.add(text)
        yield Prompt(
            prompt_id=preference.preference_id,
            dialogue=preference.prompt,
            is_safety=preference.is_safety_prompt,
        )


def _with_risks(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return `prompts` with what those who wrote them tagged: risk category and attack vector.

    Snapshots do not hold the tags; an imported prompt has none.
    """
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        ids = [item.prompt_id for item in prompts[start : start + _ROWS_AT_ONCE]]
        tagged = Judgement.objects.filter(uuid__in=[i for i in ids if _UUID.fullmatch(i)])
        rows = tagged.exclude(comparison__risk_category="").values_list(
            "uuid", "comparison__risk_category", "comparison__attack_vector"
        )
        found |= {str(key): (risk, vector) for key, risk, vector in rows}
    return [
        replace(item, risk_category=risk, attack_vector=vector)
        for item in prompts
        for risk, vector in [found.get(item.prompt_id, ("", ""))]
    ]


def _is_for(use: PromptUse, dialogue_id: str) -> bool:
    if use is PromptUse.TRAINING:
        return True
    is_even = _order(f"half of the test side: {dialogue_id}")[-1] in "02468ace"
    return is_even == (use is PromptUse.HELD_OUT)


def _order(key: str) -> str:
    """Return a hash: an order, and halves, that do not follow time, annotator or round."""
    return hashlib.sha256(key.encode()).hexdigest()
