"""`python -m embedded run [--] COMMAND ...` and `python -m embedded up`."""

import sys
from collections.abc import Sequence

from embedded.children import end_with_parent
from embedded.commands import run, up
from embedded.errors import ServiceError

_USAGE = """\
usage: python -m embedded [--end-with-parent] run [--] COMMAND [ARGUMENT ...]
       python -m embedded [--end-with-parent] up

run   runs COMMAND with DATABASE_URL, REDIS_URL and CONCORD_SECRET_KEY set. What is unset in the
      environment is started for it, and stopped when the last user has gone.
up    runs web, workers and schedule until Ctrl-C.

--end-with-parent   stop, in good order, when whoever started this is killed; for make and the like

CONCORD_HOME names the data folder (default: .concord in the clone), CONCORD_PORT the web port
(default: 8000, or the next that is free).
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status."""
    rest = list(arguments)
    if rest[:1] == ["--end-with-parent"]:
        end_with_parent()
        del rest[0]
    try:
        match rest:
            case ["run", "--", *command] | ["run", *command] if command:
                return run(command)
            case ["up"]:
                return up()
            case ["help" | "--help" | "-h"]:
                print(_USAGE)
                return 0
    except ServiceError as error:
        print(f"embedded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(_USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
