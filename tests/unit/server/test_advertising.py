"""What of a configuration is advertised, and for how long."""

import asyncio
from pathlib import Path

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Configuration, IsnsEntry, TargetEntry
from iscsi_target.discovery.isns import registrar
from iscsi_target.discovery.isns.description import NodeEntry
from iscsi_target.discovery.isns.registrar import Offer
from iscsi_target.iscsi.chap import Authentication, ChapAccount
from iscsi_target.server.advertising import Advertising

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
