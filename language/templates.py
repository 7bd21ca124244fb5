"""The chat format as a template that is saved with a tokenizer, for other programs to speak it."""

import logging
from copy import deepcopy
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from language.chat import encode_prompt
from records.chat_templates import BARE_CHAT_TEMPLATE, CHAT_TEMPLATE
from records.dialogues import Dialogue

logger = logging.getLogger(__name__)

_TEMPLATES = (CHAT_TEMPLATE, BARE_CHAT_TEMPLATE)
_PROBES = (
    Dialogue.from_texts(" hello "),
    Dialogue.from_texts("one\ntwo", "three  four", "and 56?", system="Be kind."),
)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer with the template that makes the ids we train on, where there is one."""
    saved = deepcopy(tokenizer)
    saved.chat_template = fitting_template(tokenizer)
    saved.save_pretrained(folder)


def fitting_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a template under which Transformers gives a prompt the ids of `encode_prompt`.

    The tokenizer's own is taken where it does, then ours. None, and a line in the log, where none
    does: whoever used it would ask the policy in a format it was not trained on.
    """
    plain = deepcopy(tokenizer)
    plain.split_special_tokens = False
    own = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    for template in (own, *_TEMPLATES) if own else _TEMPLATES:
        if all(_is_fitting(template, tokenizer, plain, probe) for probe in _PROBES):
            return template
    logger.warning("No chat template gives this tokenizer's prompts; none is saved with it")
    return None


def messages_of(dialogue: Dialogue) -> list[dict[str, str]]:
    """Return a dialogue as messages of `role` and `content`, the system prompt first."""
    system = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    return [*system, *({"role": t.role.value, "content": t.text} for t in dialogue.turns)]


def _is_fitting(
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    plain: PreTrainedTokenizerBase,
    probe: Dialogue,
) -> bool:
    try:
        ids = plain.apply_chat_template(
            messages_of(probe), chat_template=template, tokenize=True, return_dict=False
        )
    except TemplateError:
        return False
    return ids == encode_prompt(tokenizer, probe)
