"""The hub's cache as a download leaves it, and a policy of ours that passes for Llama 2 chat."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaForCausalLM

from tests.models import tiny_tokenizer

NAME = "meta-llama/Llama-2-7b-chat-hf"
COMMIT = "f5db02db724555f92da89c216ac04704f23d4590"
TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = false %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}"
    "{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""In the manner of the hub's own: no system prompt unless there is one, no space before a tag."""


def write_hub_cache(
    home: Path, policy: LlamaForCausalLM, write_tokenizer: Callable[[Path], None]
) -> Path:
    """Write what HF_HOME holds once `NAME` was downloaded; return the folder of its commit.

    Float16 weights in two files, a sampling configuration, and `snapshots` whose entries are links
    to `blobs`.
    """
    storage = home / "hub" / f"models--{NAME.replace('/', '--')}"
    made = storage / "made"
    nn.Module.to(policy, dtype=torch.float16)
    policy.save_pretrained(made, max_shard_size=sum(p.numel() for p in policy.parameters()))
    write_tokenizer(made)
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096}
    settings |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (made / "generation_config.json").write_text(json.dumps(settings))
    snapshot = storage / "snapshots" / COMMIT
    for folder in (snapshot, storage / "blobs", storage / "refs"):
        folder.mkdir(parents=True)
    (storage / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(made.iterdir())):
        blob = storage / "blobs" / f"{number:040x}"
        shutil.move(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    made.rmdir()
    return snapshot


def write_fast_tokenizer(folder: Path) -> None:
    """Write the tiny tokenizer as the hub has Llama 2's, with a template of its own."""
    tiny_tokenizer().save_pretrained(folder)
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def hub_environment(home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a process whose hub cache lies in `home`, offline by default."""
    removed = {"HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    own = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**kept, **own, **changes}
