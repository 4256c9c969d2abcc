"""`iscsi-target isns`: runs an iSNS server until a signal ends it."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

from iscsi_target.cli.console import Console, log_to_console
from iscsi_target.config.address import Address
from iscsi_target.config.values import ISNS_PORT, ConfigError, parse_address
from iscsi_target.discovery.isns.registering import Terms
from iscsi_target.discovery.isns.service import Service
from iscsi_target.server.descriptors import raise_limit
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

MAX_PERIOD_S: Final = 30 * 86400


class Options(NamedTuple):
    """What the command line says."""

    listen: str
    registration_period_s: int
    esi_min_interval_s: int
    controls: tuple[str, ...]
    json: bool
    verbose: bool


def run(options: Options) -> int:
    """Serves until a signal ends it and returns the exit status.

    raises    ConfigError when it cannot start
    """
    address, terms = _address(options.listen), _terms(options)
    raise_limit()
    console = log_to_console(json=options.json, verbose=options.verbose)
    try:
        with suppress(KeyboardInterrupt):  # before the signal handlers are in place
            asyncio.run(_serve(address, terms, console if options.json else None))
    finally:
        console.close()
    return 0


def _address(listen: str) -> Address:
    try:
        return parse_address(listen, ISNS_PORT)
    except ValueError as error:
        raise ConfigError("--listen", str(error), remedy="write HOST or HOST:PORT, such as 0.0.0.0:3205") from error


def _terms(options: Options) -> Terms:
    terms = Terms()._replace(period_s=options.registration_period_s, min_esi_s=options.esi_min_interval_s)
    if not 1 <= terms.period_s <= MAX_PERIOD_S:
        raise ConfigError("--registration-period", "is out of range", remedy=f"write seconds, 1 to {MAX_PERIOD_S}")
    if not 1 <= terms.min_esi_s <= terms.max_esi_s:
        raise ConfigError("--esi-min-interval", "is out of range", remedy=f"write seconds, 1 to {terms.max_esi_s}")
    controls = frozenset(map(_control, options.controls))
    return terms._replace(max_period_s=max(terms.period_s, terms.max_period_s), controls=controls)


def _control(name: str) -> str:
    try:
        return iscsi_name(name)
    except InadmissibleValue as error:
        remedy = "write one such as iqn.2026-11.org.example:operator"
        raise ConfigError("--control", f"{name!r} is {error}", remedy=remedy) from error


async def _serve(address: Address, terms: Terms, events: Console | None) -> None:
    """Serves until a signal comes; prints the URL when it is ready, or with a console for events those."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with Service(address, terms) as service:
        url = f"isns://{service.address}"
        if events is None:
            print(url, flush=True)
        else:
            _tell(events, {"event": "serving", "urls": [url], "pid": os.getpid()})
        await ending.wait()
    if events is not None:
        _tell(events, {"event": "stopped", "exit_code": 0})


def _tell(events: Console, event: dict[str, object]) -> None:
    events.write(json.dumps(event | {"time": datetime.now(UTC).isoformat()}))
