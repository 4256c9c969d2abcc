"""A served target that is advertised by SLP, and a user agent that finds it and logs in."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import slp
from tests.conftest import Tool
from tests.endtoend.initiators import run
from tests.endtoend.isns_servers import free_port, wait_until
from tools.served import ServedTarget

A, B = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b"
CONFIGURATION = """
[units.disk]
ram = true
size = "1MiB"

[slp]
listen = ["127.0.0.1:{port}"]
scopes = ["DEFAULT", "lab"]

[[targets]]
name = "{name}"
alias = "Disk"
luns = {{ 0 = "disk" }}
"""


class Advertised:
    """A target and the address of its agent."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "target.toml"
        self.file.write_text(CONFIGURATION.format(port=self.port, name=A))
        self.served = ServedTarget(folder / "state", [str(self.file)])

    def ask(self, message: bytes) -> slp.Reply:
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.sendto(message, ("127.0.0.1", self.port))
            return slp.read(asking.recv(65536))


@pytest.fixture
def advertised(tmp_path: Path) -> Iterator[Advertised]:
    target = Advertised(tmp_path)
    with target.served:
        yield target
    assert "Traceback" not in target.served.errors


@pytest.mark.clause("RFC4018 4.1")
def test_target_is_found_and_can_be_used(advertised: Advertised, tool: Tool):
    assert advertised.ask(slp.type_request()).items == [slp.TARGETS]
    [url] = advertised.ask(slp.service_request(predicate="(alias=disk)", scopes="lab")).items
    assert url == f"{slp.TARGETS}://{advertised.served.portals[0]}/{A}"
    assert f"(iscsi-name={A}),(portal-group=1)" in advertised.ask(slp.attribute_request(url)).items[0]
    portal, _, name = url.removeprefix(f"{slp.TARGETS}://").partition("/")
    assert "ISCSITGT" in run([tool("iscsi-inq"), f"iscsi://{portal}/{name}/0"])


def test_what_is_advertised_follows_the_configuration(advertised: Advertised):
    advertised.file.write_text(CONFIGURATION.format(port=advertised.port, name=B))
    os.kill(advertised.served.pid, signal.SIGHUP)
    wait_until(lambda: B in advertised.ask(slp.service_request()).items[0])
    assert advertised.served.terminate() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", advertised.port))
