"""A process and its service manager, which here is a datagram socket and an environment."""

import os
import socket

import pytest

from iscsi_target.server import systemd
from iscsi_target.server.systemd import Notifier, inherited_sockets, watchdog_interval_s


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.setblocking(False)
        yield found


@pytest.fixture
def notifier(manager):
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})


def test_readiness_carries_the_status(manager, notifier):
    notifier.ready("serving")
    assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_reload_carries_a_monotonic_time(manager, notifier):
    notifier.reloading()
    first, second = manager.recv(100).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_end_watchdog_and_status_are_reported(manager, notifier):
    notifier.stopping("logging out")
    notifier.alive()
    notifier.status("well")
    reports = [manager.recv(100) for _ in range(3)]
    assert reports == [b"STOPPING=1\nSTATUS=logging out", b"WATCHDOG=1", b"STATUS=well"]


def test_abstract_socket_is_reached():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(b"\0iscsi-target-test-%d" % os.getpid())
        Notifier(f"@iscsi-target-test-{os.getpid()}").ready("serving")
        assert manager.recv(100).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "/nonexistent/notify"])
def test_service_without_a_manager_goes_on(address):
    Notifier(address).ready("serving")


@pytest.mark.parametrize(
    "environment, interval_s",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_is_fed_twice_in_its_time(environment, interval_s):
    assert watchdog_interval_s(environment) == interval_s


@pytest.fixture
def passed(monkeypatch):
    """The descriptor of a listening socket, passed as the first one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = os.dup(listening.fileno())
        monkeypatch.setattr(systemd, "FIRST_INHERITED_DESCRIPTOR", descriptor)
        yield listening.getsockname()


def test_passed_socket_is_inherited_with_its_name(passed):
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "storage"}
    [(name, listener)] = inherited_sockets(environment)
    with listener:
        assert (name, listener.getsockname()) == ("storage", passed)


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid())}])
def test_sockets_for_nobody_or_another_process_are_left_alone(environment):
    assert inherited_sockets(environment) == ()


def test_passed_socket_that_does_not_listen_is_left_alone(monkeypatch):
    with socket.socket() as idle:
        monkeypatch.setattr(systemd, "FIRST_INHERITED_DESCRIPTOR", idle.fileno())
        assert inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}) == ()
        assert idle.fileno() >= 0
