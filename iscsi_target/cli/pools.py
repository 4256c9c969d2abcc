"""`iscsi-target pools`: shows how full the pools of a running server are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.control_client import Answer, ask_once, server_state
from iscsi_target.config.values import ConfigError

FILLS = {"soft_threshold_reached": ", reached", "full": ", full"}


class Options(NamedTuple):
    """What the command line says.

    pool            the one to show; empty for all
    state           the server's state directory, or None
    configuration   a file that names it, or None
    """

    pool: str = ""
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False


def run(options: Options) -> int:
    """Prints what there is to know and returns the exit status.

    raises    ConfigError when no server tells, or there is no such pool
    """
    state = server_state(options.state, options.configuration)
    pools = _pools(ask_once(state, {"request": "pools"}))
    wanted = [pool for pool in pools if options.pool in ("", pool["pool"])]
    if options.pool and not wanted:
        known = ", ".join(str(pool["pool"]) for pool in pools) or "none; configure [pools.NAME]"
        raise ConfigError(f"state {state}", f"there is no pool {options.pool!r}", remedy=f"pools: {known}")
    if not pools and not options.json:
        print("there are no pools; configure [pools.NAME]")
    for pool in wanted:
        for line in [json.dumps(pool)] if options.json else _lines(pool):
            print(line)
    return 0


def _pools(answer: Answer) -> list[Answer]:
    pools = answer.get("pools")
    if not isinstance(pools, list) or not all(isinstance(pool, dict) for pool in pools):
        raise ConfigError("the server", "speaks otherwise", remedy="use the iscsi-target that it is")
    return pools


def _lines(pool: Answer) -> Iterator[str]:
    use = f"{pool['used_bytes']} of {pool['size_bytes']} bytes ({pool['used_percent']} %) in use"
    threshold = "" if pool["soft_threshold"] is None else f", soft threshold at {pool['soft_threshold']} %"
    yield f"pool {pool['pool']}: {use}{threshold}{FILLS.get(str(pool['fill']), '')}"
    units = pool["units"]
    for unit in units if isinstance(units, list) else []:
        yield f"    {unit['unit']}: {unit['used_bytes']} bytes"
