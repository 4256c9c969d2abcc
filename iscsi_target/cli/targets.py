"""`iscsi-target targets`: shows the targets of a running server, takes them offline and online, and moves them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.control_client import Answer, ask_once, server_state
from iscsi_target.config.values import ConfigError


class Options(NamedTuple):
    """What the command line says.

    verb            show, offline, online or move
    target          its name; empty for show
    address         for move: where it is now
    permanent       likewise: whether initiators are to remember
    state           the server's state directory, or None
    configuration   a file that names it, or None
    """

    verb: str
    target: str = ""
    address: str = ""
    permanent: bool = False
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False


def run(options: Options) -> int:
    """Carries the command out and returns the exit status.

    raises    ConfigError for what is not done
    """
    answer = ask_once(server_state(options.state, options.configuration), _request(options))
    for line in [json.dumps(answer)] if options.json else _lines(answer, options.target.lower()):
        print(line)
    return 0


def _request(options: Options) -> dict[str, object]:
    if options.verb == "show":
        return {"request": "targets"}
    request: dict[str, object] = {"request": "set_target", "target": options.target, "state": options.verb}
    if options.verb == "move":
        request |= {"state": "moved_permanently" if options.permanent else "moved", "address": options.address}
    return request


def _lines(answer: Answer, target: str) -> Iterator[str]:
    """Yields a line for each target, or for one of them."""
    targets = answer.get("targets")
    if not isinstance(targets, list) or not all(isinstance(found, dict) for found in targets):
        raise ConfigError("the server", "speaks otherwise", remedy="use the iscsi-target that it is")
    for found in targets:
        if target in ("", found["target"]):
            yield f"{found['target']}: {found['standing']}, {found['sessions']} sessions"
