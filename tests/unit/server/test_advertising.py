"""What of a configuration is advertised, and for how long."""

import asyncio
import socket
from pathlib import Path

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Configuration, IsnsEntry, SlpEntry, TargetEntry
from iscsi_target.discovery.isns import registrar
from iscsi_target.discovery.isns.description import NodeEntry
from iscsi_target.discovery.isns.registrar import Offer
from iscsi_target.iscsi.chap import Authentication, ChapAccount
from iscsi_target.server.advertising import Advertising
from tests import slp

PORTALS = {1: [Address("127.0.0.1", 3260), Address("::", 3260)], 2: [Address("127.0.0.2", 3260)]}
CHAP = Authentication((ChapAccount("user", b"secret-secret"),))
TARGETS = (TargetEntry("iqn.a", {}, "alias"), TargetEntry("iqn.b", {}, "", (1, 2), CHAP))
SERVER = IsnsEntry(Address("192.0.2.1", 3205))
PLAIN = Configuration(Path("/nowhere"), (), (), TARGETS)


class Recorded:
    """Stands for a registrar."""

    made: list["Recorded"] = []

    def __init__(self, entry, tasks):
        self.entry = entry
        self.offers = []
        self.closed = False
        self.made.append(self)

    def want(self, offer):
        self.offers.append(offer)

    async def close(self):
        self.closed = True


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(registrar, "Registrar", Recorded)
    monkeypatch.setattr(Recorded, "made", [])
    return Recorded.made


async def test_every_target_and_portal_is_offered(made):
    advertising = Advertising(asyncio.TaskGroup())
    await advertising.adopt(PLAIN._replace(isns=SERVER), PORTALS)
    [only] = made
    nodes = (NodeEntry("iqn.a", "alias", (1,), "None"), NodeEntry("iqn.b", "", (1, 2), "CHAP"))
    assert only.offers == [Offer(nodes, ((PORTALS[1][0], 1), (PORTALS[1][1], 1), (PORTALS[2][0], 2)))]
    await advertising.close()
    assert only.closed


async def test_another_server_gets_another_registrar_and_the_same_the_new_offer(made):
    advertising = Advertising(asyncio.TaskGroup())
    await advertising.adopt(PLAIN._replace(isns=SERVER), PORTALS)
    await advertising.adopt(PLAIN._replace(isns=SERVER), {})
    [first] = made
    assert (len(first.offers), first.closed) == (2, False)
    await advertising.adopt(PLAIN._replace(isns=SERVER._replace(entity="host")), PORTALS)
    assert (len(made), first.closed, made[-1].closed) == (2, True, False)
    await advertising.adopt(PLAIN, PORTALS)
    assert made[-1].closed
    await advertising.close()


async def test_nothing_is_advertised_without_a_name_service(made):
    advertising = Advertising(asyncio.TaskGroup())
    await advertising.adopt(PLAIN, PORTALS)
    await advertising.close()
    assert made == []


SLP = SlpEntry((Address("127.0.0.1", 0),))


@pytest.fixture
async def advertising():
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        advertising = Advertising(tasks)
        yield advertising
        await advertising.close()


def asked(address):
    """The URLs that are found at an address, which the kernel has queued a request for."""
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(slp.service_request(), address)
        return slp.read(asking.recv(2000)).items


async def found(advertising):
    [address] = advertising._responder.addresses
    return await asyncio.to_thread(asked, address)


async def test_targets_are_advertised_by_slp_as_long_as_it_is_configured(advertising):
    configuration = PLAIN._replace(slp=SLP)
    await advertising.prepare(configuration)
    await advertising.adopt(configuration, {2: [Address("192.0.2.1", 3260)]})
    assert await found(advertising) == ["service:iscsi:target://192.0.2.1:3260/iqn.b"]
    await advertising.adopt(configuration, {1: [Address("192.0.2.1", 3260)]})
    assert len(await found(advertising)) == 2
    await advertising.prepare(PLAIN)
    await advertising.adopt(PLAIN, PORTALS)
    assert advertising._responder.addresses == ()


async def test_what_was_prepared_for_nothing_is_closed(advertising):
    configuration = PLAIN._replace(slp=SLP)
    await advertising.prepare(configuration)
    await advertising.adopt(configuration, PORTALS)
    before = advertising._responder.addresses
    await advertising.prepare(PLAIN._replace(slp=SlpEntry((*SLP.listen, Address("127.0.0.2", 0)))))
    assert len(advertising._responder.addresses) == 2
    advertising.abandon(configuration)
    assert advertising._responder.addresses == before
    advertising.abandon(PLAIN)
    assert advertising._responder.addresses == ()


async def test_nothing_is_opened_without_slp(advertising):
    await advertising.prepare(PLAIN)
    advertising.abandon(PLAIN)
    await advertising.adopt(PLAIN, PORTALS)
    assert advertising._responder is None
