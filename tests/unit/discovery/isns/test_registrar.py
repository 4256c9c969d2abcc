"""The registrar on loopback sockets, with a server that answers what the test says."""

import asyncio
import socket

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import IsnsEntry, StatusTransport
from iscsi_target.discovery.isns import attributes, registrar, registration
from iscsi_target.discovery.isns.attributes import Tag
from iscsi_target.discovery.isns.description import NodeEntry
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Answer, Function, Request, pack_answer, unpack_request
from iscsi_target.discovery.isns.objects import Kind, read_objects
from iscsi_target.discovery.isns.pdu import MessageReader, pack
from iscsi_target.discovery.isns.registrar import Offer, Registrar
from tests.endtoend.isns_servers import free_port

A = "iqn.2026-11.org.example:a"
NODE = NodeEntry(A, "", (1,), "None")
HERE = Address("127.0.0.1", 3260)
TIMEOUT_S = 10


class FakeServer:
    """Answers every request with success, and keeps what was asked."""

    def __init__(self):
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.connections = []

    async def open(self, port=0):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.address = Address(*self.server.sockets[0].getsockname())

    async def serve(self, reader, writer):
        self.connections.append(writer)
        messages = MessageReader()
        while data := await reader.read(4096):
            for message in messages.feed(data):
                request = unpack_request(message)
                writer.write(pack(pack_answer(Answer(Status.SUCCESSFUL, (), request.key), message)))
                self.requests.put_nowait(request)
        writer.close()

    async def next(self, function):
        while (request := await self.requests.get()).function != function:
            pass
        return request

    def close(self):
        self.server.close()
        for writer in self.connections:
            writer.close()


@pytest.fixture
async def server():
    server = FakeServer()
    await server.open()
    yield server
    server.close()


@pytest.fixture
async def register():
    """Makes registrars that are closed after the test."""
    made = []
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:

        def make(entry, *portals, nodes=(NODE,)):
            made.append(Registrar(entry, tasks))
            made[-1].want(Offer(nodes, portals))
            return made[-1]

        yield make
        for each in made:
            await each.close()


def portals(request):
    found = [each.values for each in read_objects(request.operating) if each.kind is Kind.PORTAL]
    return [
        Address(attributes.read_address(values[Tag.PORTAL_IP_ADDRESS]), attributes.read_number(values[Tag.PORTAL_PORT]))
        for values in found
    ]


@pytest.mark.parametrize("transport", StatusTransport)
async def test_target_is_registered_and_deregistered_at_the_end(server, register, transport):
    registering = register(IsnsEntry(server.address, status_transport=transport), (HERE, 1))
    request = await server.next(Function.DEV_ATTR_REG)
    assert portals(request) == [HERE]
    ports = [value for tag, value in request.operating if tag == Tag.SCN_PORT]
    assert len(ports) == (transport is not StatusTransport.NONE)
    await registering.close()
    await server.next(Function.DEV_DEREG)


async def test_entity_is_the_first_target_unless_it_is_named(server, register):
    register(IsnsEntry(server.address), (HERE, 1))
    assert (await server.next(Function.DEV_ATTR_REG)).key == (attributes.text(Tag.ENTITY_IDENTIFIER, A),)
    register(IsnsEntry(server.address, "host"), (HERE, 1))
    assert (await server.next(Function.DEV_ATTR_REG)).key == (attributes.text(Tag.ENTITY_IDENTIFIER, "host"),)


async def test_wildcard_and_name_become_addresses(server, register, caplog):
    wildcards = (Address("0.0.0.0", 3260), 1), (Address("::", 3260), 1), (Address("localhost", 3261), 1)
    register(IsnsEntry(server.address), *wildcards)
    found = portals(await server.next(Function.DEV_ATTR_REG))
    assert found[0] == HERE
    assert [address.port for address in found] == [3260, 3261]
    assert "portal [::]:3260 is not registered" in caplog.text


async def test_portal_of_another_host_has_its_status_port_here(server, register):
    register(IsnsEntry(server.address), (Address("192.0.2.1", 3260), 1))
    request = await server.next(Function.DEV_ATTR_REG)
    assert any(tag == Tag.SCN_PORT for tag, _ in request.operating)


async def test_server_that_starts_again_is_told_again(server, register, monkeypatch):
    monkeypatch.setattr(registrar, "END_S", 0.01)
    monkeypatch.setattr(registration, "MIN_RETRY_S", 0.01)
    register(IsnsEntry(server.address), (HERE, 1))
    await server.next(Function.DEV_ATTR_REG)
    server.close()
    again = FakeServer()
    await again.open(server.address.port)
    await again.next(Function.DEV_ATTR_QRY)
    again.close()


async def test_end_does_not_wait_long_for_a_server_that_is_not_there(register, monkeypatch):
    monkeypatch.setattr(registrar, "END_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = Address(*listening.getsockname())
    registering = register(IsnsEntry(nobody), (HERE, 1))
    await registering.close()


async def test_address_that_is_not_found_is_looked_up_again(server, register, monkeypatch, caplog):
    monkeypatch.setattr(registrar, "PREPARE_AGAIN_S", 0)
    tried = []

    async def fails_once(self, address):
        tried.append(address)
        if len(tried) == 1:
            raise socket.gaierror("no such name")
        return address.host

    monkeypatch.setattr(Registrar, "_host", fails_once)
    register(IsnsEntry(server.address), (HERE, 1))
    await server.next(Function.DEV_ATTR_REG)
    assert "yet: no such name" in caplog.text


async def test_bug_of_the_machine_ends_nothing(server, register, monkeypatch, caplog):
    registering = register(IsnsEntry(server.address), (HERE, 1))
    await server.next(Function.DEV_ATTR_REG)

    def fails(*arguments):
        raise AssertionError("a bug")

    registering.input(fails)
    assert "internal error" in caplog.text
    await registering.close()
    await server.next(Function.DEV_DEREG)


@pytest.mark.parametrize("chosen", [True, False])
async def test_portals_of_other_hosts_share_a_status_port(server, register, chosen):
    hosts = ["127.0.0.1", "192.0.2.1", "192.0.2.2"] if chosen else ["192.0.2.1", "192.0.2.2", "127.0.0.1"]
    entry = IsnsEntry(server.address, status_port=free_port() if chosen else 0)
    register(entry, *((Address(host, 3260), 1) for host in hosts))
    request = await server.next(Function.DEV_ATTR_REG)
    assert len({value for tag, value in request.operating if tag == Tag.SCN_PORT}) == 1
