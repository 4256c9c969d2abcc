"""Server processes that start quickly, because they are forked from one that has imported the server already."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

READY_TIMEOUT_S = 20.0
POLL_S = 0.003

NURSERY = """
import json, os, signal, sys, traceback
from iscsi_target.cli import main
import iscsi_target.cli.serve, iscsi_target.config.checks

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    order = json.loads(line)
    process = os.fork()
    if process:
        print(process, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, path in enumerate((os.devnull, order["output"], order["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
    code = 1
    try:
        code = main(order["arguments"])
    except BaseException:
        traceback.print_exc()
    os._exit(code)
"""


class Nursery:
    """A process that has imported the server, and forks one for each order: imports are most of what a start takes."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", NURSERY]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def fork(self, arguments: Sequence[str], output: Path, errors: Path) -> int:
        """Starts a server process with these arguments of its command line, and returns its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": list(arguments), "output": str(output), "errors": str(errors)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


class ForkedTarget:
    """A server process with a state directory of its own, killed and started again."""

    def __init__(self, nursery: Nursery, state: Path, configuration: str) -> None:
        self._nursery = nursery
        self._state = state
        self._alive: int | None = None  # a descriptor of the process
        self._urls: list[str] = []
        state.mkdir()
        (state / "target.toml").write_text(configuration)

    async def start(self) -> None:
        """Starts the process and returns when it serves."""
        assert self._alive is None
        output, errors = self._state / "serve.out", self._state / "serve.err"
        output.write_text("")
        arguments = ["serve", str(self._state / "target.toml"), "--json", "--listen", "127.0.0.1:0"]
        process = self._nursery.fork([*arguments, "--state", str(self._state)], output, errors)
        self._alive = os.pidfd_open(process)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not (events := self._events("serving")):
                assert not self._is_over(), errors.read_text()
                await asyncio.sleep(POLL_S)
        self._urls = events[0]["urls"]

    def _events(self, name: str) -> list[dict[str, list[str]]]:
        lines = (self._state / "serve.out").read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if event["event"] == name]

    def url(self, unit: int) -> str:
        """Returns the URL of a unit."""
        return next(url for url in self._urls if url.endswith(f"/{unit}"))

    def kill9(self) -> None:
        """Ends the process as a crash does; returns when nothing of it is left."""
        if self._alive is not None:
            signal.pidfd_send_signal(self._alive, signal.SIGKILL)
            assert self._is_over(READY_TIMEOUT_S)
            os.close(self._alive)
            self._alive = None

    def _is_over(self, within_s: float = 0.0) -> bool:
        assert self._alive is not None
        return bool(select.select([self._alive], [], [], within_s)[0])
