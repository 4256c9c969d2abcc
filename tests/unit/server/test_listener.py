"""Listeners on loopback addresses."""

import asyncio
import errno
import socket

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.server import listener as listener_module
from iscsi_target.server.listener import Listener, bind


class Listening:
    """A listening socket whose accept answers by the book of the test."""

    def __init__(self, real, answers):
        self._real = real
        self._answers = answers

    def __getattr__(self, name):
        return getattr(self._real, name)

    def accept(self):
        if self._answers:
            raise self._answers.pop(0)
        return self._real.accept()


async def accepted_by(listening, has_room=lambda: True):
    """Returns the portal group tag of the first connection that a listener accepts."""
    found = asyncio.get_running_loop().create_future()
    listener = Listener(listening, 7, lambda accepted, tag: found.set_result((accepted, tag)), has_room)
    listener.start()
    with socket.create_connection(listener.address):
        try:
            async with asyncio.timeout(5):
                accepted, tag = await found
        finally:
            listener.close()
    accepted.close()
    return tag


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_portal_accepts_connections_of_its_portal_group(host):
    assert await accepted_by(await bind(Address(host, 0))) == 7


async def test_address_in_digits_is_not_looked_up(monkeypatch):
    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", None)
    for host in ("127.0.0.1", "::1"):
        (await bind(Address(host, 0))).close()


async def test_connections_wait_in_the_kernel_until_there_is_room():
    room = [False, False, True, True]
    assert await accepted_by(await bind(Address("127.0.0.1", 0)), lambda: room.pop(0)) == 7
    assert len(room) < 2


async def test_listener_rests_when_descriptors_run_out_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE_S", 0.01)
    exhausted = Listening(await bind(Address("127.0.0.1", 0)), [OSError(errno.EMFILE, "Too many open files")])
    assert await accepted_by(exhausted) == 7
    assert len(caplog.records) == 1
    assert "LimitNOFILE" in caplog.text


async def test_connection_that_was_reset_does_not_hide_the_next():
    reset = Listening(await bind(Address("127.0.0.1", 0)), [ConnectionAbortedError(errno.ECONNABORTED, "aborted")])
    assert await accepted_by(reset) == 7


async def test_port_in_use_is_a_mistake_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address(*other.getsockname())
        with pytest.raises(ConfigError, match="address already in use; stop what listens there") as raised:
            await bind(address)
    assert raised.value.where == f"portal {address}"


async def test_address_of_another_host_is_a_mistake():
    with pytest.raises(ConfigError, match="no interface of this host"):
        await bind(Address("192.0.2.1", 0))


async def test_ipv4_and_ipv6_wildcards_share_a_port():
    with await bind(Address("0.0.0.0", 0)) as one:
        port = one.getsockname()[1]
        with await bind(Address("::", port)) as other:
            assert other.getsockname()[1] == port


async def test_host_name_that_no_encoding_takes_is_a_mistake():
    with pytest.raises(ConfigError, match=r"portal a\.\.b:0"):
        await bind(Address("a..b", 0))
