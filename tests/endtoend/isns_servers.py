"""iSNS servers as processes, that of open-isns and our own, and the administrator's tool of open-isns."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.endtoend.initiators import attempt, run

READY_TIMEOUT_S = 10.0
APPEAR_TIMEOUT_S = 30.0
POLL_S = 0.05

OPERATOR = "iqn.2026-11.org.example:operator"
SERVER = """\
SourceName = iqn.2026-11.org.example:isnsd
BindAddress = 127.0.0.1:{port}
PIDFile = {folder}/isnsd.pid
ControlSocket = {folder}/isnsd.control
DefaultDiscoveryDomain = 1
SLPRegister = 0
Security = 0
RegistrationPeriod = 1h
ESIMinInterval = 1s
ESIRetries = 2
"""
CLIENT = """\
SourceName = {source}
ServerAddress = {server}
Security = 0
"""


def free_port() -> int:
    """Returns a port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class IsnsDaemon:
    """An iSNS server at a port of 127.0.0.1, with its database in memory; a context manager that ends it.

    words    the command that starts it at the port
    """

    def __init__(self, words: Sequence[str | Path], port: int) -> None:
        self.port = port
        self._words = [str(word) for word in words]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it and waits until it accepts connections."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._words, stdin=quiet, stdout=quiet, stderr=quiet)
        wait_until(self._accepts)

    def kill(self) -> None:
        """Ends it, and with it all that was registered."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), READY_TIMEOUT_S).close()
        except ConnectionRefusedError:
            return False
        return True


def open_isns(program: Path, folder: Path) -> IsnsDaemon:
    """Returns the server of open-isns; program is the path of `isnsd`."""
    port = free_port()
    file = folder / "isnsd.conf"
    file.write_text(SERVER.format(port=port, folder=folder))
    return IsnsDaemon([program, "-f", "-4", "-c", file], port)


def our_isns(*options: str) -> IsnsDaemon:
    """Returns our own server with these further options."""
    port = free_port()
    words = ["-m", "iscsi_target", "isns", "--listen", f"127.0.0.1:{port}", "--esi-min-interval", "1", *options]
    return IsnsDaemon([sys.executable, *words], port)


class Isnsadm:
    """`isnsadm`, which asks one server.

    program    its path
    server     host:port
    source     the node that it says that it is
    """

    def __init__(self, program: Path, server: str, folder: Path, source: str = OPERATOR) -> None:
        file = folder / f"isnsadm-{source}.conf"
        file.write_text(CLIENT.format(server=server, source=source))
        self._words: list[str | Path] = [program, "-c", file]

    def __call__(self, *options: str) -> str:
        """Runs it; it must succeed, and what it printed is returned."""
        return run([*self._words, *options])

    def attempt(self, *options: str) -> str:
        """Runs it to whatever end, and returns all that it printed."""
        finished = attempt([*self._words, *options])
        return finished.output + finished.errors

    def names(self) -> set[str]:
        """Returns the names of the storage nodes that the server has."""
        lines = self.attempt("--list", "nodes").splitlines()
        return {line.split('"')[1] for line in lines if "iSCSI name" in line}


def wait_until(holds: Callable[[], bool]) -> None:
    """Returns when something holds, and fails the test when it does not for long."""
    deadline = time.monotonic() + APPEAR_TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, f"{holds} does not hold after {APPEAR_TIMEOUT_S:g} s"
        time.sleep(POLL_S)
