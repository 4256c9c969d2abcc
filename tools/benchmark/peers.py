"""The targets that are measured: this one, and those of Debian's packages tgt and istgt, each as its own process.

Every one serves the same two units: 0, the disk that is loaded, and 1, a small neighbour of it. Both are files in one
directory, written in full before the first run. A peer's settings are those that it is installed with, but for what a
name says: `tgtd-1thread` has one I/O thread for each unit. tgtd does digests only where its target is told to, and then
it wants them, so a second target of it has the same units with digests.
"""

import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tools.benchmark.process import memory_bytes
from tools.served import NotServing, ServedTarget

TARGET = "iqn.2026-11.org.example:bench"
DIGEST_TARGET = TARGET + "-digests"
DISK, NEIGHBOUR = 0, 1
NEIGHBOUR_BYTES = 64 << 20
CHUNK_BYTES = 16 << 20
START_TIMEOUT_S = 20.0
POLL_S = 0.02
BUSY_POLL_US = 50
CONTROL_NUMBERS = 32768  # of tgtd's -C, by which tgtadm finds it
HOST = "127.0.0.1"


def free_port() -> int:
    """Returns a port of the loopback address that nobody listens at."""
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])


def write_file(path: Path, size_bytes: int) -> None:
    """Makes a file of random bytes that is on the disk, and not in the page cache."""
    chunk = os.urandom(min(CHUNK_BYTES, size_bytes))
    with path.open("wb") as file:
        for _ in range(size_bytes // len(chunk)):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Peer(ABC):
    """A target that is measured.

    name       as printed and chosen with --peers
    package    the Debian package that it comes in, or empty
    program    what must be on the path
    """

    name = ""
    package = ""
    program = ""
    only_latency = False  # measured at depth 1 alone

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self.directory = directory / self.name
        self.files = [self.directory / "disk.img", self.directory / "neighbour.img"]
        self._size_bytes = size_bytes

    @classmethod
    def is_installed(cls) -> bool:
        """Tells whether its program is there."""
        return not cls.program or shutil.which(cls.program) is not None

    def start(self) -> None:
        """Writes its files and starts it.

        raises    NotServing
        """
        self.directory.mkdir(exist_ok=True)
        for file, size_bytes in zip(self.files, (self._size_bytes, NEIGHBOUR_BYTES), strict=True):
            write_file(file, size_bytes)
        self._start()

    @abstractmethod
    def _start(self) -> None: ...

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process, 0 when that is not known."""

    @abstractmethod
    def url(self, unit: int = DISK, *, digests: bool = False) -> str:
        """Returns the libiscsi URL of a unit, one that does digests when they are wanted."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the process."""

    def settle(self) -> None:
        """Writes to the disk what a run left to be written, so that it does not slow the next one."""
        for path in self.files:
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def warm(self) -> None:
        """Brings its files into the page cache, from which another run or a system short of memory drops them.

        They are to lie there page by page. What is written in large pieces, or read ahead, comes in large folios, and
        on ext4 a small write into one of them costs several times what all the rest of a command does.
        """
        for path in self.files:
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                while file.read(CHUNK_BYTES):
                    pass

    def forget(self) -> None:
        """Drops the disk from the page cache."""
        self.settle()
        with self.files[DISK].open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def memory_bytes(self) -> int:
        """Returns its resident memory."""
        return memory_bytes(self.pid)


class Ours(Peer):
    """This target, as `iscsi-target serve` runs it."""

    name = "ours"
    settings = ""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        super().__init__(directory, size_bytes)
        self._configuration = self.directory / "bench.toml"
        self._served = ServedTarget(self.directory / "state", (str(self._configuration),))

    def _start(self) -> None:
        units = "\n".join(f'[units.unit{lun}]\nfile = "{path}"' for lun, path in enumerate(self.files))
        luns = f'[[targets]]\nname = "{TARGET}"\nluns = {{ 0 = "unit0", 1 = "unit1" }}\n'
        self._configuration.write_text(f"{self.settings}\n{units}\n{luns}")
        self._served.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._served.pid

    def url(self, unit: int = DISK, *, digests: bool = False) -> str:
        """Returns the URL of a unit, with which an initiator may do digests or not."""
        return self._served.url(unit)

    def stop(self) -> None:
        """Ends the process, if there is one."""
        self._served.kill9()


class OursBusy(Ours):
    """This target, polling before it sleeps."""

    name = "ours-busy"
    settings = f"busy_poll_us = {BUSY_POLL_US}"
    only_latency = True


class Daemon(Peer):
    """A program of a package, in the foreground."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        super().__init__(directory, size_bytes)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _serve(self, *command: str) -> None:
        """Starts the program and waits until it accepts connections."""
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                socket.create_connection((HOST, self._port), 1).close()
            except OSError:
                time.sleep(POLL_S)
            else:
                return
        said = (self.directory / "log").read_text(errors="replace").strip()
        raise NotServing(f"{self.program} does not serve (it needs root): {said}")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Tgtd(Daemon):
    """tgtd with its 16 I/O threads for each unit."""

    name = "tgtd"
    package = "tgt"
    program = "tgtd"
    options: tuple[str, ...] = ()

    def _start(self) -> None:
        self._control = str(self._port % CONTROL_NUMBERS)
        self._serve("tgtd", "-f", "-C", self._control, "--iscsi", f"portal={HOST}:{self._port}", *self.options)
        for tid, name in enumerate((TARGET, DIGEST_TARGET), 1):
            self._configure("target", "new", tid, "-T", name)
            for lun, path in enumerate(self.files, 1):
                self._configure("logicalunit", "new", tid, "--lun", str(lun), "-b", str(path))
            self._configure("target", "bind", tid, "-I", "ALL")
        for key in ("HeaderDigest", "DataDigest"):
            self._configure("target", "update", tid, "-n", key, "-v", "CRC32C")

    def _configure(self, mode: str, operation: str, tid: int, *words: str) -> None:
        command = ["tgtadm", "-C", self._control, "--lld", "iscsi", "--op", operation, "--mode", mode]
        done = subprocess.run([*command, "--tid", str(tid), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotServing(f"tgtadm {operation} {mode}: {done.stderr.strip()}")

    def url(self, unit: int = DISK, *, digests: bool = False) -> str:
        """Returns the URL of a unit, of the target with digests or without."""
        return f"iscsi://{HOST}:{self._port}/{DIGEST_TARGET if digests else TARGET}/{unit + 1}"


class TgtdOneThread(Tgtd):
    """tgtd with one I/O thread for each unit."""

    name = "tgtd-1thread"
    options = ("--nr_iothreads=1",)


ISTGT_CONFIGURATION = """\
[Global]
  NodeBase "iqn.2026-11.org.example"
  PidFile {directory}/istgt.pid
  AuthFile {directory}/auth.conf
  MediaDirectory {directory}
  LogFacility "local7"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 16
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  AuthGroup None
  Portal UC1 127.0.0.1:{control_port}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal DA1 127.0.0.1:{port}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 127.0.0.0/8
[LogicalUnit1]
  TargetName bench
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  AuthGroup None
  UseDigest Auto
  UnitType Disk
  LUN0 Storage {disk} Auto
  LUN1 Storage {neighbour} Auto
"""


class Istgt(Daemon):
    """istgt with the limits of its own example configuration, and a thread for each session."""

    name = "istgt"
    package = "istgt"
    program = "istgt"

    def _start(self) -> None:
        configuration = self.directory / "istgt.conf"
        disk, neighbour = self.files
        numbers = {"port": self._port, "control_port": free_port()}
        configuration.write_text(
            ISTGT_CONFIGURATION.format(directory=self.directory, disk=disk, neighbour=neighbour, **numbers)
        )
        (self.directory / "auth.conf").touch(mode=0o600)
        self._serve("istgt", "-D", "-c", str(configuration))

    def url(self, unit: int = DISK, *, digests: bool = False) -> str:
        """Returns the URL of a unit, with which an initiator may do digests or not."""
        return f"iscsi://{HOST}:{self._port}/{TARGET}/{unit}"


class Given(Peer):
    """A unit that runs already, about whose process nothing is known."""

    def __init__(self, url: str, place: int) -> None:
        self.name = f"unit{place}"
        super().__init__(Path(), 0)
        self.files = []
        self._url = url

    def start(self) -> None:
        """Does nothing."""

    def _start(self) -> None:
        """Does nothing."""

    @property
    def pid(self) -> int:
        """Not known."""
        return 0

    def url(self, unit: int = DISK, *, digests: bool = False) -> str:
        """Returns the URL that was given."""
        return self._url

    def stop(self) -> None:
        """Does nothing."""


PEERS: tuple[type[Peer], ...] = (Ours, OursBusy, Tgtd, TgtdOneThread, Istgt)
