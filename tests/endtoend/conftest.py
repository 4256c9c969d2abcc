"""Targets as processes of their own, and the initiators that are installed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import IN_CI, Tool
from tests.endtoend.initiators import LOGINS, Initiators, Login, attempt
from tools.served import ServedTarget

NAME = "iqn.2026-11.org.example:endtoend"
SIZE_BYTES = 64 << 20

# unit 0 by two portal groups; the command line replaces the address of the first one
CONFIGURATION = """
[portal_groups.1]
listen = ["127.0.0.1:0"]

[portal_groups.2]
listen = ["127.0.0.2:0"]

[units.disk]
file = "disk.img"
size = {size}
write_same_unmap = "any"

[units.read-only]
ram = true
size = {size}
read_only = true

[units.removable]
ram = true
size = {size}
removable = true

[units.small-sectors]
ram = true
size = {size}
physical_block_size = 512

[discovery]
{authentication}
[[targets]]
name = "{name}"
portal_groups = [1, 2]
luns = {{ 0 = "disk", 1 = "read-only", 2 = "removable", 3 = "small-sectors" }}
{authentication}
"""

Serve = Callable[..., ServedTarget]


@contextmanager
def serving(folder: Path, login: Login, *options: str, size_bytes: int = SIZE_BYTES) -> Iterator[ServedTarget]:
    """A target of `CONFIGURATION` for this login, with these further options, until the end of the block.

    Whatever was done to it, it must not have met an error of its own.
    """
    file = folder / "target.toml"
    file.write_text(CONFIGURATION.format(name=NAME, size=size_bytes, authentication=login.authentication))
    file.chmod(0o600)
    with ServedTarget(folder, [str(file), *options]) as target:
        yield target
    assert "Traceback" not in target.errors


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Returns a function that starts a target for this test alone: `serve(login, *options)`."""
    with ExitStack() as running:

        def start(login: Login, *options: str) -> ServedTarget:
            return running.enter_context(serving(tmp_path_factory.mktemp(login.name), login, *options))

        yield start


@pytest.fixture(scope="session", params=LOGINS, ids=str)
def initiators(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Initiators]:
    """Every way to log in, each with a target of its own that lasts for all tests."""
    login: Login = request.param
    with serving(tmp_path_factory.mktemp(login.name), login) as target:
        yield Initiators(target, login)


@pytest.fixture(scope="session")
def qemu_io(tool: Tool) -> Path:
    """qemu-io that speaks iSCSI."""
    program = tool("qemu-io")
    if "Unknown driver" in attempt([program, "--image-opts", "driver=iscsi"]).errors:
        report = pytest.fail if IN_CI else pytest.skip
        report("QEMU's iSCSI driver is not installed; on Debian it is in qemu-block-extra")
    return program


@pytest.fixture(scope="session")
def qemu_img(tool: Tool, qemu_io: Path) -> Path:
    """qemu-img that speaks iSCSI."""
    return tool("qemu-img")
