"""Starts a target as a process of its own, as a user does, and tells where it serves."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

READY_TIMEOUT_S = 20.0
DRAIN_TIMEOUT_S = 20.0
POLL_S = 0.01


class Event(TypedDict, total=False):
    """A line of what `serve --json` prints, as far as it matters here."""

    event: str
    urls: list[str]
    portals: list[str]


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
        serving = self._await_event(("serving",), 0, deadline_s)
        self.urls, self.portals = tuple(serving["urls"]), tuple(serving["portals"])

    def _await_event(self, names: Sequence[str], known: int, deadline_s: float) -> Event:
        """Waits for an event that has one of some names.

        known     how many of them are known already
        raises    NotServing
        """
        assert self._process is not None
        while time.monotonic() < deadline_s:
            ended = self._process.poll() is not None
            told = [event for event in self._events() if event.get("event") in names]
            if len(told) > known:
                return told[known]
            if ended:
                raise NotServing(f"exit code {self._process.returncode}: {self.errors}")
            time.sleep(POLL_S)
        raise NotServing(f"no {' or '.join(names)} in time: {self.errors}")

    def _events(self) -> list[Event]:
        lines = (self.state / "serve.out").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def reload(self) -> None:
        """Has the process read its configuration again, and waits until it has taken it.

        raises    NotServing when it does not take it
        """
        assert self._process is not None
        names = ("reloaded", "reload_failed")
        known = sum(event.get("event") in names for event in self._events())
        self._process.send_signal(signal.SIGHUP)
        event = self._await_event(names, known, time.monotonic() + READY_TIMEOUT_S)
        if event["event"] != "reloaded":
            raise NotServing(f"the configuration is not taken: {event}")

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
