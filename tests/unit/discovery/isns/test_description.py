"""What a target with two portal groups registers.

portal P 192.0.2.1, group 1 ──┐
                              ├── target A (groups 1 and 2)
portal Q 192.0.2.2, group 2 ──┴── target B (group 2)
"""

import pytest

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import UDP, Tag
from iscsi_target.discovery.isns.description import (
    Description,
    NodeEntry,
    PortalEntry,
    deregistration,
    inquiry,
    registration,
    subscription,
)
from iscsi_target.discovery.isns.messages import Function, Scn
from iscsi_target.discovery.isns.objects import Kind, read_objects

A, B = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b"
WANTED = Description(
    entity="entity",
    nodes=(NodeEntry(A, "alias", (1, 2), "None"), NodeEntry(B, "", (2,), "CHAP")),
    portals=(PortalEntry("192.0.2.1", 3260, 1, 9000), PortalEntry("192.0.2.2", 3260, 2)),
    period_s=300,
    esi_interval_s=60,
)


def objects(wanted=WANTED):
    request = registration(wanted, A)
    return read_objects(request.operating)


def of_kind(kind, wanted=WANTED):
    return [found.values for found in objects(wanted) if found.kind is kind]


@pytest.mark.clause("RFC4171 5.6.5.1")
def test_registration_replaces_the_entity():
    request = registration(WANTED, B)
    assert (request.function, request.source, request.replace) == (Function.DEV_ATTR_REG, B, True)
    assert request.key == (attributes.text(Tag.ENTITY_IDENTIFIER, "entity"),)
    [entity] = of_kind(Kind.ENTITY)
    assert entity[Tag.ENTITY_PROTOCOL] == b"\0\0\0\2"
    assert attributes.read_number(entity[Tag.REGISTRATION_PERIOD]) == 300


@pytest.mark.clause("RFC4171 6.3.5")
def test_portal_with_a_status_port_takes_esi_and_scn_there():
    first, second = of_kind(Kind.PORTAL)
    assert attributes.read_number(first[Tag.ESI_PORT]) == attributes.read_number(first[Tag.SCN_PORT]) == UDP | 9000
    assert attributes.read_number(first[Tag.ESI_INTERVAL]) == 60
    assert set(second) == {Tag.PORTAL_IP_ADDRESS, Tag.PORTAL_PORT}
    [by_tcp, _] = of_kind(Kind.PORTAL, WANTED._replace(status_by_udp=False, esi_interval_s=0))
    assert attributes.read_number(by_tcp[Tag.SCN_PORT]) == 9000
    assert Tag.ESI_PORT not in by_tcp


def test_node_has_type_alias_and_auth_method():
    first, second = of_kind(Kind.NODE)
    assert attributes.read_text(first[Tag.ISCSI_ALIAS]) == "alias"
    assert attributes.read_number(first[Tag.ISCSI_NODE_TYPE]) == 1
    assert attributes.read_text(second[Tag.ISCSI_AUTH_METHOD]) == "CHAP"
    assert Tag.ISCSI_ALIAS not in second


@pytest.mark.clause("RFC4171 6.5.4")
def test_each_node_has_a_group_with_each_portal_and_an_empty_tag_where_it_is_not_reached():
    found = {
        (
            attributes.read_text(values[Tag.PG_ISCSI_NAME]),
            attributes.read_address(values[Tag.PG_PORTAL_IP_ADDRESS]),
        ): values[Tag.PORTAL_GROUP_TAG]
        for values in of_kind(Kind.GROUP)
    }
    assert found == {
        (A, "192.0.2.1"): b"\0\0\0\1",
        (A, "192.0.2.2"): b"\0\0\0\2",
        (B, "192.0.2.1"): b"",
        (B, "192.0.2.2"): b"\0\0\0\2",
    }


def test_other_requests_name_the_node_or_the_entity():
    entity = attributes.text(Tag.ENTITY_IDENTIFIER, "entity")
    assert subscription(A).key == (attributes.text(Tag.ISCSI_NAME, A),)
    assert attributes.read_number(subscription(A).operating[0].value) & Scn.OBJECT_REMOVED
    assert inquiry(A, "entity").key == (entity,)
    assert deregistration(A, "entity").operating == (entity,)


def test_names_and_whether_there_is_a_status_port():
    assert WANTED.names == (A, B)
    assert WANTED.notifiable
    assert not WANTED._replace(portals=WANTED.portals[1:]).notifiable
