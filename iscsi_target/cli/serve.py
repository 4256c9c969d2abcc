"""`iscsi-target serve`: runs a server until a signal ends it, and tells people, programs and systemd how it is doing.

Standard output is for what the caller waits for: the URLs, or with --json every event as a JSON line. Log lines for
people go to standard error, where systemd's journal takes them too. Both leave through a console that never waits for
whoever reads them.
"""

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.console import Console, log_to_console
from iscsi_target.config.values import (
    MAX_BUSY_POLL_US,
    ConfigError,
    ConfigErrors,
    Configuration,
    default_configuration,
    default_state,
    parse_address,
)
from iscsi_target.server.descriptors import raise_limit
from iscsi_target.server.journal import record
from iscsi_target.server.server import Server
from iscsi_target.server.systemd import Notifier, inherited_sockets, watchdog_interval_s
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.host import keep_freed_memory

log = logging.getLogger(__name__)

KEPT_BYTES = 32 << 20  # of freed memory, for the buffers of the next large transfers


class Options(NamedTuple):
    """What the command line says."""

    configuration: Path | None
    state: Path | None
    listen: str | None
    trace: Path | None
    json: bool
    verbose: bool
    busy_poll_us: int | None = None


def run(options: Options) -> int:
    """Serves until a signal ends it and returns the exit status.

    raises    ConfigError, StorageError when it cannot start
    """
    raise_limit()
    if not any(name.startswith("MALLOC_") for name in os.environ):  # which somebody has set to have it otherwise
        keep_freed_memory(KEPT_BYTES)
    console = log_to_console(json=options.json, verbose=options.verbose)
    try:
        with suppress(KeyboardInterrupt):  # before the signal handlers are in place
            asyncio.run(_Service(options, os.environ, console).run())
    finally:
        console.close()
    return 0


def read_configuration(options: Options) -> Configuration:
    """Returns the configuration that the options ask for, and logs its warnings.

    raises    ConfigError, ConfigErrors
    """
    if options.configuration is None:
        configuration = default_configuration(options.state or default_state())
    else:
        from iscsi_target.config.checks import judge

        judged = judge(options.configuration, options.state)
        for line in judged.warnings:
            log.warning("%s", line)
        if judged.configuration is None:
            raise ConfigErrors(str(options.configuration), judged.mistakes)
        configuration = judged.configuration
    if options.busy_poll_us is not None:
        if not 0 <= options.busy_poll_us <= MAX_BUSY_POLL_US:
            remedy = f"write a number of microseconds from 0 (off) to {MAX_BUSY_POLL_US}"
            raise ConfigError("--busy-poll", f"{options.busy_poll_us} is out of range", remedy=remedy)
        configuration = configuration._replace(busy_poll_us=options.busy_poll_us)
    if options.listen is None:
        return configuration
    try:
        return configuration.listening_at(parse_address(options.listen))
    except ValueError as error:
        remedy = "write HOST:PORT, such as 127.0.0.1:3260 or [::1]:3260"
        raise ConfigError("--listen", str(error), remedy=remedy) from error


class _Service:
    """One run of the command."""

    def __init__(self, options: Options, environment: Mapping[str, str], console: Console) -> None:
        self._options = options
        self._console = console
        self._environment = environment
        self._notifier = Notifier.from_environment(environment)
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._reload = asyncio.Event()

    async def run(self) -> None:
        self._handle_signals()
        configuration = read_configuration(self._options)
        inherited = inherited_sockets(self._environment)
        async with Server(configuration, trace=self._options.trace, inherited=inherited) as server:
            self._announce_ready(server)
            async with asyncio.TaskGroup() as tasks:
                chores = [tasks.create_task(self._reload_when_asked(server)), tasks.create_task(self._feed_watchdog())]
                await self._ending.wait()
                chores[0].cancel()
                await self._drain(server)
                chores[1].cancel()
        self._print({"event": "stopped", "exit_code": 0})

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        loop.add_signal_handler(signal.SIGINT, self._end_at_once)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _end(self) -> None:
        if self._ending.is_set():
            self._at_once.set()
        self._ending.set()

    def _end_at_once(self) -> None:
        self._at_once.set()
        self._ending.set()

    def _announce_ready(self, server: Server) -> None:
        gc.freeze()  # what is loaded by now stays, so no collection need look at it
        gc.enable()
        portals = [str(address) for address in server.portals]
        self._print({"event": "serving", "urls": server.urls, "portals": portals, "pid": os.getpid()})
        if not self._options.json:
            log.info("serving at %s", ", ".join(portals))
            print("\n".join(server.urls), flush=True)
        self._notifier.ready(f"serving {len(server.urls)} LUNs at {', '.join(portals)}")

    async def _drain(self, server: Server) -> None:
        sessions = len(server.sessions)
        self._notifier.stopping(f"logging out {sessions} sessions")
        record(logging.INFO, "draining", {"sessions": sessions})
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(server.drain())
            hurry = tasks.create_task(self._at_once.wait())
            await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            hurry.cancel()

    async def _reload_when_asked(self, server: Server) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            try:
                configuration = await asyncio.to_thread(read_configuration, self._options)
                await server.reload(configuration)
            except (ConfigError, StorageError) as error:
                mistakes = list(error.lines) if isinstance(error, ConfigErrors) else [str(error)]
                record(logging.ERROR, "reload failed", {"mistakes": mistakes})
            else:
                fields = {"targets": len(configuration.targets), "units": len(configuration.units)}
                record(logging.INFO, "reloaded", fields)
            self._notifier.ready(f"serving {len(server.urls)} LUNs")

    async def _feed_watchdog(self) -> None:
        interval_s = watchdog_interval_s(self._environment)
        while interval_s is not None:
            self._notifier.alive()
            await asyncio.sleep(interval_s)

    def _print(self, event: dict[str, object]) -> None:
        if self._options.json:
            self._console.write(json.dumps(event | {"time": datetime.now(UTC).isoformat()}))
