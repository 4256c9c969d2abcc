"""`iscsi-target media`: shows and changes the medium of a removable unit of a running server.

As with `reservations`, the exit status tells an order that was refused from one of which nobody knows the outcome.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.control_client import (
    EXIT_INTERRUPTED,
    EXIT_UNDECIDED,
    Answer,
    Unanswered,
    ask_once,
    server_state,
)
from iscsi_target.config.values import ConfigError

SHOW = "show"


class Options(NamedTuple):
    """What the command line says.

    verb            show, eject, load or insert
    file            of the medium to be inserted
    force           for eject
    state           the server's state directory, or None
    configuration   a file that names it, or None
    """

    verb: str
    unit: str
    file: Path = Path()
    force: bool = False
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False


def run(options: Options) -> int:
    """Carries the command out and returns the exit status.

    raises    ConfigError for what is not done
    """
    try:
        answer = ask_once(server_state(options.state, options.configuration), _request(options))
    except Unanswered as error:
        if options.verb == SHOW:
            raise
        what = "the server ended before it had answered; it may be done or not"
        remedy = f"see `iscsi-target media show {options.unit}` after a restart"
        print(f"iscsi-target: {ConfigError(error.where, what, remedy=remedy)}", file=sys.stderr)
        return EXIT_UNDECIDED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    for line in [json.dumps(answer)] if options.json else _shown(answer):
        print(line)
    return 0


def _request(options: Options) -> dict[str, str]:
    match options.verb:
        case "show":
            return {"request": "media", "unit": options.unit}
        case "eject":
            return {"request": "eject_by_force" if options.force else "eject", "unit": options.unit}
        case "insert":
            return {"request": "insert", "unit": options.unit, "file": str(options.file.absolute())}
        case _:
            return {"request": options.verb, "unit": options.unit}


def _shown(answer: Answer) -> Iterator[str]:
    state = "loaded" if answer.get("loaded") else "ejected"
    if answer.get("loaded") and answer.get("stopped"):
        state = "loaded, stopped"
    kind = "" if answer.get("removable") else ", not removable"
    access = ", read-only" if answer.get("read_only") else ""
    yield f"unit {answer.get('unit')}: {state}{kind}: {answer.get('medium')}, {answer.get('size_bytes')} bytes{access}"
    preventing = answer.get("preventing")
    for nexus in preventing if isinstance(preventing, list) else []:
        yield f"removal is prevented by {nexus['initiator']},i,0x{nexus['isid']}"
