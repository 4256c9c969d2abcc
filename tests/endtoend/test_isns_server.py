"""`iscsi-target isns` as a process, and the administrator's tool of open-isns as its client."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.isns_servers import OPERATOR, Isnsadm, IsnsDaemon, our_isns

A, B, C = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b", "iqn.2026-11.org.example:c"


@pytest.fixture
def server() -> Iterator[IsnsDaemon]:
    with our_isns() as daemon:
        yield daemon


@pytest.fixture
def isnsadm(tool: Tool, server: IsnsDaemon, tmp_path: Path) -> Isnsadm:
    return Isnsadm(tool("isnsadm"), f"127.0.0.1:{server.port}", tmp_path, A)


def test_what_isnsadm_registers_it_finds_and_deregisters(isnsadm: Isnsadm):
    isnsadm("--register", f"target={A},alias=disk", "portal=192.0.2.1:3260", "pg,pgt=5", f"initiator={B}")
    assert isnsadm.names() == {A, B}
    shown = isnsadm("--query", f"iscsi-name={A}")
    for line in ('iSCSI alias = "disk"', "Portal IP address = 192.0.2.1", "Portal group tag = 5"):
        assert line in shown
    assert A in isnsadm("--query", "portal=192.0.2.1:3260")
    assert B not in isnsadm("--query", "iscsi-node-type=target")
    isnsadm("--deregister", f"iscsi-name={B}")
    assert isnsadm.names() == {A}
    isnsadm("--deregister", f"eid={A}")
    assert isnsadm.names() == set()


def test_replacing_with_isnsadm_takes_the_place_of_what_was(isnsadm: Isnsadm):
    isnsadm("--register", f"target={A}", f"initiator={B}", "portal=192.0.2.1:3260")
    isnsadm("--register", "--replace", f"target={A}", "portal=192.0.2.2:3260")
    assert isnsadm.names() == {A}
    assert "192.0.2.1" not in isnsadm("--list", "portals")


def test_discovery_domains_of_an_operator_part_nodes(tool: Tool, tmp_path: Path):
    with our_isns("--control", OPERATOR) as server:
        address = f"127.0.0.1:{server.port}"
        operator, node = (Isnsadm(tool("isnsadm"), address, tmp_path, source) for source in (OPERATOR, A))
        for name in (A, B, C):
            node("--register", f"target={name}")
        operator("--dd-register", "dd-name=lab", f"dd-member-name={A}", f"dd-member-name={B}")
        assert 'DD name = "lab"' in operator("--list", "dds")
        assert (node.names(), operator.names()) == ({A, B}, {A, B, C})
        operator("--dd-deregister", "1", f"dd-member-name={B}")
        assert node.names() == {A}
        operator("--dd-deregister", "1")
        assert node.names() == {A, B, C}
        assert "unauthorized" in node.attempt("--dd-register", "dd-name=mine", f"dd-member-name={A}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_status_0(number: signal.Signals):
    words = [sys.executable, "-m", "iscsi_target", "isns", "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        serving = json.loads(process.stdout.readline())
        assert serving["event"] == "serving"
        assert serving["urls"][0].startswith("isns://127.0.0.1:")
        process.send_signal(number)
        assert json.loads(process.stdout.read().splitlines()[-1])["event"] == "stopped"
    assert process.returncode == 0
