"""Llama 2's chat format as templates for Transformers; none has a system prompt by default."""

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if turn['role'] == 'user' %}"
    "{% set text = system + turn['content'] if loop.first else turn['content'] %}"
    "{{ bos_token + ' [INST] ' + (text | trim) + ' [/INST]' }}"
    "{% else %}{{ ' ' + (turn['content'] | trim) + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""The format, with a space before the first tag, as our tokenizers read it."""

BARE_CHAT_TEMPLATE = CHAT_TEMPLATE.replace("' [INST] '", "'[INST] '")
"""Without that space, which Llama 2's own tokenizer adds by itself after a special token."""
