"""Runs, in the guest, the scripts that the host sends over a virtio port: one JSON object a line in both directions.

host     {"script": "...", "environment": {"PORTAL": "10.0.2.2:3260"}, "timeout_s": 60}
guest    {"output": "..."} as it comes, then {"status": 0}

It ends when the host lets go of the port.
"""

import codecs
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

PORT = "/dev/vport*p1"
CHUNK_BYTES = 1 << 16
TIMED_OUT = 124  # as timeout(1) has it


def main() -> None:
    """Serves until the host is gone."""
    (path,) = Path("/").glob(PORT.lstrip("/"))
    with path.open("r+b", buffering=0) as port:
        _send(port, {"ready": True})
        received = b""
        while chunk := os.read(port.fileno(), CHUNK_BYTES):
            received += chunk
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                _perform(port, **json.loads(line))


def _send(port: BinaryIO, message: dict[str, object]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[port.write(line) :]


def _perform(port: BinaryIO, script: str, environment: dict[str, str], timeout_s: float) -> None:
    with subprocess.Popen(
        ["bash", "-c", script],
        env=os.environ | environment,
        cwd="/root",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        in_time = _forward(process, port, time.monotonic() + timeout_s)
        if not in_time:
            os.killpg(process.pid, signal.SIGKILL)
        _send(port, {"status": process.wait() % 256 if in_time else TIMED_OUT})


def _forward(process: subprocess.Popen[bytes], port: BinaryIO, deadline_s: float) -> bool:
    """Sends what a script writes until it ends, and does not wait for what it has left running in the background.

    returns   whether it has ended in time
    """
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    output, end = process.stdout.fileno(), os.pidfd_open(process.pid)
    waiting = [output, end]
    while ready := select.select(waiting, [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        if output in ready:
            chunk = os.read(output, CHUNK_BYTES)
            _send(port, {"output": decoder.decode(chunk, final=not chunk)})
            if not chunk:
                waiting.remove(output)
        else:
            break
    os.close(end)
    return bool(ready)


main()
