"""Starts a target as a process of its own, as a user does, and tells where it serves."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_TIMEOUT_S = 20.0
DRAIN_TIMEOUT_S = 20.0
POLL_S = 0.01


class NotServing(Exception):
    """Says that the process ended or was silent, with what it wrote to standard error."""


class ServedTarget:
    """A target process; a context manager that ends it.

    state     its state directory; kept over restarts, and the place of its logs
    options   further words of the command line: a configuration file, --trace FILE
    listen    the address of its first portal group, by default at a port that the kernel chooses; None: what the
              configuration says
    """

    def __init__(self, state: Path, options: Sequence[str] = (), listen: str | None = "127.0.0.1:0") -> None:
        self.state = state
        self.options = (*options, *(("--listen", listen) if listen else ()))
        self.urls: tuple[str, ...] = ()
        self.portals: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        state.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.kill9()

    @property
    def pid(self) -> int:
        """The process's id; the process must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        """What the process has written to standard error since it was last started."""
        log = self.state / "serve.err"
        return log.read_text(errors="replace") if log.exists() else ""

    def start(self) -> None:
        """Starts the process and waits until it serves.

        raises    NotServing
        """
        assert self._process is None or self._process.poll() is not None
        command = [sys.executable, "-m", "iscsi_target", "serve", *self.options]
        command += ["--json", "--state", str(self.state)]
        with (self.state / "serve.out").open("wb") as output, (self.state / "serve.err").open("wb") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            self._await_readiness(time.monotonic() + READY_TIMEOUT_S)
        except BaseException:
            self.kill9()
            raise

    def _await_readiness(self, deadline_s: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline_s:
            ended = self._process.poll() is not None
            for line in (self.state / "serve.out").read_text().splitlines(keepends=True):
                event = json.loads(line) if line.endswith("\n") else {}
                if event.get("event") == "serving":
                    self.urls, self.portals = tuple(event["urls"]), tuple(event["portals"])
                    return
            if ended:
                raise NotServing(f"exit code {self._process.returncode}: {self.errors}")
            time.sleep(POLL_S)
        raise NotServing(f"nothing served after {READY_TIMEOUT_S:g} s: {self.errors}")

    def url(self, unit: int = 0, path: int = 0) -> str:
        """Returns the libiscsi URL of a unit.

        unit   its LUN
        path   which of the portals, in the order of the configuration
        """
        url = next(url for url in self.urls if url.endswith(f"/{unit}"))
        return url.replace(url.split("/")[2], self.portals[path])

    def kill9(self) -> None:
        """Ends the process as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        """Asks the process to drain and end, and returns its exit code.

        raises    subprocess.TimeoutExpired when it does not end
        """
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DRAIN_TIMEOUT_S)

    def restart(self) -> None:
        """Starts the ended process again on the same state; a port that the kernel chose is another one."""
        self.start()
