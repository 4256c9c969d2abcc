"""Guests, and targets that they reach. Booting is dear, so guests last for all tests, which leave them as found."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tools.guests.image import GuestUnavailable, Image, ready_image, require
from tools.guests.machine import HOSTS, PROGRAMS, Guest, booted, free_port
from tools.served import ServedTarget

NAME = "iqn.2026-11.org.example"
CONFIGURATION = """
[portal_groups.1]
listen = ["127.0.0.1:{ports[0]}"]
advertise = ["{hosts[0]}:{ports[0]}"]

[portal_groups.2]
listen = ["127.0.0.1:{ports[1]}"]
advertise = ["{hosts[1]}:{ports[1]}"]

[target_port_groups.1]
portal_groups = [1]

[target_port_groups.2]
portal_groups = [2]
state = "active/non-optimized"

[units.disk]
file = "disk.img"
size = "512MiB"
serial = "disk-serial"
naa = "600000000000000000000000000000d1"

[units.other]
ram = true
size = "64MiB"
serial = "other-serial"
naa = "600000000000000000000000000000d2"

[[targets]]
name = "{name}:disks"
luns = {{ 0 = "disk", 1 = "other" }}

[[targets]]
name = "{name}:paths"
portal_groups = [1, 2]
luns = {{ 0 = "disk" }}

[[targets]]
name = "{name}:chap"
luns = {{ 0 = "disk" }}
chap = [{{ user = "initiator", secret = "secret-of-initiator" }}]
mutual_chap = {{ user = "target", secret = "secret-of-target" }}
"""
FOLDER = Path(__file__).parent
PRELUDE = f"PR_OPS={shlex.quote((FOLDER / 'pr_ops.py').read_text())}\n{(FOLDER / 'prelude.sh').read_text()}"


class Service:
    """A target that guests reach.

    target        its process
    environment   what scripts in a guest know of it
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        ports = [free_port(), free_port()]
        self.file = folder / "target.toml"
        self.file.write_text(configuration.format(ports=ports, hosts=HOSTS, name=NAME))
        self.file.chmod(0o600)
        self.target = ServedTarget(folder, [str(self.file)], listen=None)
        self.environment = {"PORTAL": f"{HOSTS[0]}:{ports[0]}", "PORTAL2": f"{HOSTS[1]}:{ports[1]}", "NAME": NAME}

    def act(self, action: str) -> None:
        """Does what a transcript wants of the host."""
        match action.split():
            case ["the", "target", "restarts"]:
                assert self.target.terminate() == 0
                self.target.restart()
            case ["the", "target", "is", "killed", "and", "starts", "again"]:
                self.target.kill9()
                self.target.restart()
            case ["the", "disk", "grows", "to", size]:
                now, _, rest = self.file.read_text().partition("[units.other]")
                self.file.write_text(re.sub(r'"\d+MiB"', f'"{size}"', now) + "[units.other]" + rest)
                self.target.reload()
            case ["group", group, "of", "the", "disk", "becomes", state]:
                command = [sys.executable, "-m", "iscsi_target", "paths", "set", "disk", group, state]
                subprocess.run([*command, "--state", str(self.target.state)], check=True, stdout=subprocess.DEVNULL)
            case _:
                raise ValueError(f"the host cannot do this: {action}")


@contextmanager
def serving(folder: Path, configuration: str = CONFIGURATION) -> Iterator[Service]:
    """A target until the end of the block; whatever was done to it, it must not have met an error of its own."""
    service = Service(folder, configuration)
    with service.target:
        yield service
    assert "Traceback" not in service.target.errors


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Returns a target for this test alone."""
    with serving(tmp_path) as service:
        yield service


@pytest.fixture(scope="session")
def image() -> Image:
    """Returns what guests boot from; makes it when there is none."""
    try:
        require(PROGRAMS)
        return ready_image()
    except GuestUnavailable as reason:
        report = pytest.fail if IN_CI else pytest.skip
        report(f"no guest: {reason}")


@pytest.fixture(scope="session")
def guest_a(image: Image) -> Iterator[Guest]:
    with booted(image, "a") as guest:
        yield guest


@pytest.fixture(scope="session")
def guest_b(image: Image) -> Iterator[Guest]:
    with booted(image, "b") as guest:
        yield guest


def _left_as_found(guest: Guest) -> Iterator[Guest]:
    yield guest
    assert guest.run(PRELUDE + "forget_all").status == 0


@pytest.fixture
def a(guest_a: Guest) -> Iterator[Guest]:
    """Returns guest A without any session."""
    yield from _left_as_found(guest_a)


@pytest.fixture
def b(guest_b: Guest) -> Iterator[Guest]:
    """Returns guest B, likewise."""
    yield from _left_as_found(guest_b)
