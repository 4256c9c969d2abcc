"""`iscsi-target paths`: shows the target port groups that lead to a unit of a running server, and changes states."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.control_client import Answer, ask_once, server_state
from iscsi_target.config.values import ConfigError


class Options(NamedTuple):
    """What the command line says.

    verb            show or set
    state           the server's state directory, or None
    configuration   a file that names it, or None
    group, access   for set: the number of a target port group, and the state that it is to get
    """

    verb: str
    unit: str
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False
    group: int = 0
    access: str = ""


def run(options: Options) -> int:
    """Carries the command out and returns the exit status.

    raises    ConfigError for what is not done
    """
    answer = ask_once(server_state(options.state, options.configuration), _request(options))
    for line in [json.dumps(answer)] if options.json else _lines(answer):
        print(line)
    return 0


def _request(options: Options) -> dict[str, object]:
    if options.verb == "show":
        return {"request": "paths", "unit": options.unit}
    return {"request": "set_path", "unit": options.unit, "group": options.group, "state": options.access}


def _lines(answer: Answer) -> Iterator[str]:
    groups = answer.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ConfigError("the server", "speaks otherwise", remedy="use the iscsi-target that it is")
    if not groups:
        yield f"unit {answer.get('unit')}: every path is active/optimized; configure [target_port_groups.NUMBER]"
    for group in groups:
        becoming = f" to {group['goal']}" if group["goal"] != group["state"] else ""
        preferred = ", preferred" if group["preferred"] else ""
        yield f"target port group {group['group']}: {group['state']}{becoming}{preferred}"
        for port in group["ports"]:
            where = f"{port['target']},t,0x{port['portal_group_tag']:04x}"
            yield f"    {where} (relative target port {port['relative_identifier']})"
