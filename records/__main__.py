"""Print the reference of every run's configuration as Markdown: `python -m records`."""

import json
import sys

from records.configs import COMMANDS, CONFIGS
from records.fields import Config, FieldDoc

_HEADER = """# Configuration of runs

Each run reads `config.json` in its run directory. These are its fields, with default and bounds;
the text of a field stands in `records/configs.py`, under the field, and nowhere else.
This page is written by `python -m records`.
"""


def reference() -> str:
    """Return the whole page."""
    parts = [_HEADER]
    nested: dict[str, type[Config]] = {}
    for kind, config in CONFIGS.items():
        package, command = COMMANDS[kind]
        title = f"## `{kind}`: `python -m {package} {command} RUN_DIR`"
        parts += [title, _first_paragraphs(config), _table(config.describe())]
        nested.update(config.nested())
    for name, part in sorted(nested.items()):
        parts += [f"## `{name}`", _first_paragraphs(part), _table(part.describe())]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _first_paragraphs(config: type[Config]) -> str:
    return "\n".join(line.strip() for line in (config.__doc__ or "").splitlines())


def _table(fields: list[FieldDoc]) -> str:
    lines = ["| field | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for doc in fields:
        default = doc.type_name if isinstance(doc.default, dict) else json.dumps(doc.default)
        lines.append(f"| `{doc.name}` | {default} | {doc.bounds} | {' '.join(doc.text.split())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
