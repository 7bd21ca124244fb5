"""`python -m records`: the reference of every run's configuration as Markdown, presets, exports."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records.errors import RecordError
from records.exports import export_for_trl
from records.fields import Config, FieldDoc
from records.preferences import Axis
from records.presets import PRESETS, preset
from records.reward_configs import MARGINS, MarginTable
from records.run_configs import RunKind
from records.run_kinds import COMMANDS, CONFIGS
from records.servers import SERVERS_VARIABLE, ServerConfig
from records.sft_presets import SFT_PRESETS, sft_preset

_HEADER = """# Configuration of runs

Each run reads `config.json` in its run directory. These are its fields, with default and bounds;
the text of a field stands under it in `records/*_configs.py`, `records/ppo_choices.py` or
`records/servers.py`, and nowhere else.
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
    title = f"## `ServerConfig`: each server in the file that `{SERVERS_VARIABLE}` names"
    parts += [title, _first_paragraphs(ServerConfig), _table(ServerConfig.describe())]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _first_paragraphs(config: type[Config]) -> str:
    return "\n".join(line.strip() for line in (config.__doc__ or "").splitlines())


def _table(fields: list[FieldDoc]) -> str:
    lines = ["| field | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for doc in fields:
        default = doc.type_name if isinstance(doc.default, dict) else json.dumps(doc.default)
        lines.append(f"| `{doc.name}` | {default} | {doc.bounds} | {' '.join(doc.text.split())} |")
    return "\n".join(lines)


def preset_json(name: str, axis: Axis, inputs: Sequence[str]) -> dict[str, Any]:
    """Return the `config.json` of a run directory: the preset, and inputs given as ROLE=PATH.

    Raises:
        RecordError: There is no such preset, or an input is not of the form.
    """
    roles: dict[str, dict[str, str]] = {}
    for item in inputs:
        role, sign, path = item.partition("=")
        if not (role and sign and path):
            raise RecordError("input", f"{item!r} is not ROLE=PATH, such as policy=models/sft")
        roles[role] = {"path": str(Path(path).resolve()), "digest": ""}
    is_sft = name in SFT_PRESETS
    kind = RunKind.SFT if is_sft else RunKind.REWARD_MODEL
    config = (sft_preset(name) if is_sft else preset(name, axis)).to_json()
    return {"kind": kind.value, "config": config, "inputs": roles, "code_commit": "by hand"}


def main(argv: Sequence[str]) -> int:
    """Execute the command; without one, print the reference. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m records", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    presets = {**PRESETS, **SFT_PRESETS}
    listed = "; ".join(f"{name}: {text}" for name, text in presets.items())
    made = commands.add_parser("preset", help="print the config.json of a run", description=listed)
    made.add_argument("name", choices=list(presets))
    made.add_argument("--axis", type=Axis, choices=list(Axis), default=Axis.HELPFULNESS)
    made.add_argument("--input", action="append", default=[], metavar="ROLE=PATH")
    exported = commands.add_parser("export-trl", help="write a snapshot as TRL reads it")
    exported.add_argument("snapshot", type=Path)
    exported.add_argument("output", type=Path, help="folder for train.parquet and test.parquet")
    tables = [table for table in MarginTable if table is not MarginTable.CUSTOM]
    exported.add_argument("--margins", type=MarginTable, choices=tables, default=MarginTable.SMALL)
    exported.add_argument("--axis", type=Axis, choices=list(Axis), default=None)
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "preset":
            made_json = preset_json(arguments.name, arguments.axis, arguments.input)
            sys.stdout.write(json.dumps(made_json, indent=2) + "\n")
        elif arguments.command == "export-trl":
            counts = export_for_trl(
                arguments.snapshot,
                arguments.output,
                margins=MARGINS[arguments.margins],
                axis=arguments.axis,
            )
            sys.stdout.write(json.dumps(counts) + "\n")
        else:
            sys.stdout.write(reference())
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
