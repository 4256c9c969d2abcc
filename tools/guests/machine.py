"""A guest: boots the image under QEMU's software emulation, runs scripts in it and always ends it.

The image is shared and never changed, so several guests at once are nodes of a cluster. A guest has two networks, as
multipath wants them, and reaches the host's loopback in each. Nothing reaches the guest but its agent, over a virtio
port, and what is forwarded from ports of the host's loopback.
"""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

from tools.guests.image import Image, require

HOSTS = (
    "10.0.2.2",
    "10.0.3.2",
)  # QEMU's networks forward these to 127.0.0.1; eth0 and eth1 of the guest lead there
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"}
MEMORY_MIB = 768
BOOT_TIMEOUT_S = 300.0
SCRIPT_TIMEOUT_S = 300.0
GRACE_S = 30.0  # for the agent to end a script that was not done in time
CHUNK_BYTES = 1 << 16
MAX_MESSAGE_BYTES = 1 << 20  # the agent sends 64 KiB of output at most, escaped


class GuestFailed(Exception):
    """Says that a guest did not boot, ended, or did not answer, with the end of its console."""


class Finished(NamedTuple):
    """A script that has ended.

    output   what it wrote to standard output and standard error
    status   its exit status, 0..255; 124 when it was not done in time and was killed
    """

    output: str
    status: int


class Guest:
    """A guest that has booted.

    name      its host name, and the end of its initiator name, iqn.2026-11.org.example:NAME
    channel   leads to its agent
    console   the file with what its kernel and QEMU say
    raises    GuestFailed when the agent does not say that it is there
    """

    def __init__(self, name: str, channel: socket.socket, console: Path) -> None:
        self.name = name
        self._channel = channel
        self._console = console
        self._received = b""
        self._receive(time.monotonic() + BOOT_TIMEOUT_S)

    def run(
        self,
        script: str,
        timeout_s: float = SCRIPT_TIMEOUT_S,
        *,
        environment: Mapping[str, str] | None = None,
        on_output: Callable[[str], None] = lambda text: None,
    ) -> Finished:
        """Runs a script with bash and waits for its end, though not for what it has left running in the background.

        script        the text of it
        timeout_s     after that many seconds it is killed
        environment   further variables
        on_output     is called with what it writes as it comes
        raises        GuestFailed
        """
        request = {"script": script, "environment": dict(environment or {}), "timeout_s": timeout_s}
        try:
            self._channel.settimeout(GRACE_S)
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._failure(f"takes no script: {error}") from None
        deadline_s = time.monotonic() + timeout_s + GRACE_S
        output: list[str] = []
        while "status" not in (message := self._receive(deadline_s)):
            output.append(str(message["output"]))
            on_output(output[-1])
        return Finished("".join(output), int(str(message["status"])))

    def _receive(self, deadline_s: float) -> dict[str, object]:
        """Returns the agent's next message."""
        while b"\n" not in self._received:
            self._channel.settimeout(max(0.001, deadline_s - time.monotonic()))
            try:
                chunk = self._channel.recv(CHUNK_BYTES)
            except TimeoutError:
                raise self._failure("did not answer in time") from None
            if not chunk or len(self._received) > MAX_MESSAGE_BYTES:
                raise self._failure("ended" if not chunk else "sent a message without an end")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, object] = json.loads(line)
        return message

    def _failure(self, what: str) -> GuestFailed:
        last = "\n".join(self._console.read_text(errors="replace").splitlines()[-20:])
        return GuestFailed(f"guest {self.name!r} {what}; the end of its console:\n{last}")


@contextmanager
def booted(image: Image, name: str = "guest", forwarded: Mapping[int, int] = MappingProxyType({})) -> Iterator[Guest]:
    """Boots a guest, and ends it with the block.

    image       what it boots
    name        as of `Guest`
    forwarded   ports of 127.0.0.1 of the host -> ports of the guest that answer there
    raises      GuestUnavailable, GuestFailed
    """
    require(PROGRAMS)
    channel, far_end = socket.socketpair()
    with TemporaryDirectory(prefix="guest-") as folder, channel:
        console = Path(folder, "console")
        with far_end, console.open("wb") as messages:
            process = subprocess.Popen(
                _command(image, name, forwarded, console=console, channel=far_end.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                pass_fds=[far_end.fileno()],
            )
        try:
            yield Guest(name, channel, console)
        finally:
            process.kill()
            process.wait()


def _command(image: Image, name: str, forwarded: Mapping[int, int], *, console: Path, channel: int) -> list[str]:
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-10.0.2.15:{its}" for ours, its in forwarded.items())
    kernel_line = f"console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off guest.name={name}"
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),  # also when we are killed
        *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", kernel_line),
        *("-drive", f"file={image.root},format=raw,if=virtio,read-only=on"),
        *("-netdev", f"user,id=net0,net=10.0.2.0/24{forwards}", "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-netdev", "user,id=net1,net=10.0.3.0/24", "-device", "virtio-net-pci,netdev=net1,romfile="),
        *("-chardev", f"socket,id=agent,fd={channel}", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,chardev=agent", "-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
    ]


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
