"""How long it takes from nothing to the data of a first READ.

What a user sees is counted: a start that finds the compiled modules which an installer, or an earlier start, has left.
So the server may write them, whatever PYTHONDONTWRITEBYTECODE says: in the first round, which the bench does not count.

As a module it starts a server in its own process, which has imported the package and nothing that the package imports
later, and prints the milliseconds:   python -m tools.benchmark.starts
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time

import iscsi_target
from tools.benchmark.session import Session, place_of

READ_BYTES = 4096
UNIT_BYTES = 64 << 20


def read_once(url: str) -> None:
    """Logs in and reads the first block."""
    with Session(place_of(url)) as session:
        session.read(0, READ_BYTES)


def served_ms() -> float:
    """Returns the time from the start of `iscsi-target serve`, on a new state directory, to the first READ's data."""
    with tempfile.TemporaryDirectory(prefix="iscsi-target-bench-") as state:
        command = [sys.executable, "-m", "iscsi_target", "serve", "--json", "--listen", "127.0.0.1:0", "--state", state]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        began_s = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            try:
                read_once(_first_url(process))
                return (time.perf_counter() - began_s) * 1e3
            finally:
                process.kill()


def _first_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "serving":
            return str(event["urls"][0])
    raise OSError("iscsi-target serve ended")


async def embedded_ms() -> float:
    """Returns the time that `async with iscsi_target.serve(...)` takes until a first READ's data is there."""
    began_s = time.perf_counter()
    async with iscsi_target.serve(ram=UNIT_BYTES) as server:
        await asyncio.to_thread(read_once, server.url("disk0"))
        return (time.perf_counter() - began_s) * 1e3


if __name__ == "__main__":
    sys.dont_write_bytecode = False
    print(asyncio.run(embedded_ms()))
