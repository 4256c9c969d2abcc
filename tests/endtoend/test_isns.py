"""A served target, an iSNS server, that of open-isns or our own, and the tool of open-isns.

target ──register──> isns <──query── isnsadm
       <──ESI, SCN──
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.isns_servers import Isnsadm, IsnsDaemon, open_isns, our_isns, wait_until
from tools.served import ServedTarget

A, B = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b"
CONFIGURATION = """
[portal_groups.1]
listen = ["127.0.0.1:0"]

[portal_groups.2]
listen = ["127.0.0.2:0"]

[units.disk]
ram = true
size = "1MiB"

[isns]
server = "127.0.0.1:{port}"
entity = "host.example.org"
esi_interval = 1
status_transport = "{transport}"

[[targets]]
name = "{first}"
alias = "Disk A"
portal_groups = [1, 2]
luns = {{ 0 = "disk" }}
"""
SECOND = f'[[targets]]\nname = "{B}"\nportal_groups = [2]\nluns = {{ 0 = "disk" }}\n'
ESI_ROUNDS_S = 4.0  # in which isnsd removes a portal that does not answer


@pytest.fixture(params=["open-isns", "ours"])
def isnsd(tool: Tool, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[IsnsDaemon]:
    with open_isns(tool("isnsd"), tmp_path) if request.param == "open-isns" else our_isns() as daemon:
        yield daemon


@pytest.fixture
def isnsadm(tool: Tool, isnsd: IsnsDaemon, tmp_path: Path) -> Isnsadm:
    return Isnsadm(tool("isnsadm"), f"127.0.0.1:{isnsd.port}", tmp_path)


class Registered:
    """A target that registers itself."""

    def __init__(self, isnsd: IsnsDaemon, folder: Path, transport: str) -> None:
        self.file = folder / "target.toml"
        self.text = CONFIGURATION.format(port=isnsd.port, transport=transport, first=A)
        self.file.write_text(self.text)
        self.served = ServedTarget(folder / "state", [str(self.file)])

    def reload(self, text: str) -> None:
        self.file.write_text(text)
        os.kill(self.served.pid, signal.SIGHUP)


@pytest.fixture(params=["udp", "tcp"])
def registered(isnsd: IsnsDaemon, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Registered]:
    target = Registered(isnsd, tmp_path, request.param)
    with target.served:
        yield target
    assert "Traceback" not in target.served.errors


def test_target_is_registered_with_its_portals_and_groups(registered: Registered, isnsadm: Isnsadm):
    wait_until(lambda: isnsadm.names() == {A})
    shown = isnsadm("--query", "entity-id")
    assert '"host.example.org"' in shown
    assert 'iSCSI alias = "Disk A"' in shown
    for number, portal in enumerate(registered.served.portals, start=1):
        host, _, port = portal.partition(":")
        assert f"Portal group address = {host}\n" in shown
        assert f"Portal group port = {port}/tcp" in shown
        assert f"Portal group tag = {number}\n" in shown


def test_registration_follows_the_configuration_and_ends_with_the_server(registered: Registered, isnsadm: Isnsadm):
    wait_until(lambda: isnsadm.names() == {A})
    registered.reload(registered.text + SECOND)
    wait_until(lambda: isnsadm.names() == {A, B})
    registered.reload(registered.text.replace(A, B))
    wait_until(lambda: isnsadm.names() == {B})
    assert registered.served.terminate() == 0
    assert isnsadm.names() == set()


def test_registration_comes_back_when_the_isns_server_starts_again(
    registered: Registered, isnsd: IsnsDaemon, isnsadm: Isnsadm
):
    wait_until(lambda: isnsadm.names() == {A})
    isnsd.kill()
    isnsd.start()
    wait_until(lambda: isnsadm.names() == {A})


@pytest.mark.clause("RFC4171 5.6.5.13")
def test_status_inquiries_are_answered_as_long_as_the_target_lives(registered: Registered, isnsadm: Isnsadm):
    wait_until(lambda: isnsadm.names() == {A})
    time.sleep(ESI_ROUNDS_S)
    assert "127.0.0.1" in isnsadm("--list", "portals")
    registered.served.kill9()
    wait_until(lambda: "127.0.0.1" not in isnsadm.attempt("--list", "portals"))


@pytest.mark.clause("RFC4171 5.6.5.8")
def test_target_that_somebody_deregisters_comes_back(
    registered: Registered, isnsd: IsnsDaemon, isnsadm: Isnsadm, tool: Tool, tmp_path: Path
):
    registered.reload(registered.text + SECOND)
    wait_until(lambda: isnsadm.names() == {A, B})
    Isnsadm(tool("isnsadm"), f"127.0.0.1:{isnsd.port}", tmp_path, A)("--deregister", f"iscsi-name={B}")
    wait_until(lambda: "has lost a target" in (registered.served.state / "serve.out").read_text())
    wait_until(lambda: isnsadm.names() == {A, B})
