"""An iSCSI target: serves files, block devices and RAM as logical units to initiators on the network.

To embed one in a program or a test, and to be its initiator:

    async with iscsi_target.serve(ram=64 << 20) as server, iscsi_target.connect(server.url("disk0")) as session:
        await session.write(0, bytes(512))

The rest of the initiator, such as its options and errors, is in `iscsi_target.client`.

Servers have no global state: a process may run several. Nothing is imported before it is used, so that importing the
package, or one of its lower layers, costs nothing.
"""

import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iscsi_target.client import connect, discover
    from iscsi_target.config.values import Configuration
    from iscsi_target.server.server import Server

__all__ = ["serve", "connect", "discover"]

_OF_CLIENT = frozenset({"connect", "discover"})

_LOADING = threading.Lock()  # whether garbage is collected is one setting of all threads


def __getattr__(name: str) -> object:
    """Takes the functions of an initiator from where they are when somebody asks for one."""
    if name in _OF_CLIENT:
        from iscsi_target import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@asynccontextmanager
async def serve(
    configuration: "Configuration | Path | str | None" = None,
    *,
    state: Path | str | None = None,
    listen: str | None = None,
    ram: int | None = None,
    trace: Path | str | None = None,
) -> "AsyncIterator[Server]":
    """Serves a target inside `async with`; every portal accepts connections when the body starts.

    configuration   values of iscsi_target.config, or the name of a TOML file; None: one unit "disk0"
    state           state directory; None: the configuration's own, or for ram one that is removed afterwards
    listen          "host:port" instead of the configured addresses; port 0 lets the kernel choose
    ram             bytes: without configuration, the unit is in RAM and not a sparse file of 1 GiB in the state
                    directory, and the port is chosen by the kernel
    trace           a pcapng file to write what goes over the connections to
    yields          the Server: url(unit), urls, portals, sessions, reload(configuration), drain()
    raises          ConfigError, StorageError when it cannot be served; ValueError for a wrong `listen`
    """
    with _collecting_later():
        from tempfile import TemporaryDirectory

        from iscsi_target.config.values import parse_address
        from iscsi_target.server.server import Server

    with TemporaryDirectory(prefix="iscsi-target-", ignore_cleanup_errors=True) as scratch:
        if state is None and ram is not None:
            state = scratch
        found = _configuration(configuration, None if state is None else Path(state), ram)
        if listen is not None:
            found = found.listening_at(parse_address(listen))
        async with Server(found, trace=None if trace is None else Path(trace)) as server:
            yield server


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Lets Python look for garbage only when the modules are loaded: they are none, and looking takes a tenth more."""
    with _LOADING:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def _configuration(
    configuration: "Configuration | Path | str | None", state: Path | None, ram: int | None
) -> "Configuration":
    from iscsi_target.config.values import default_configuration, default_state, ram_configuration

    if configuration is None and ram is not None:
        return ram_configuration(state or default_state(), ram)
    if configuration is None:
        return default_configuration(state or default_state())
    if isinstance(configuration, Path | str):
        from iscsi_target.config.checks import load

        return load(Path(configuration), state)
    return configuration if state is None else configuration._replace(state=state)
