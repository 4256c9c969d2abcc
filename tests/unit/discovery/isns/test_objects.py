"""Attributes in a row become objects."""

import pytest

from iscsi_target.discovery.isns.attributes import Attribute, Tag, address, number, text
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.objects import Kind, Object, group, read_objects

P = (address(Tag.PORTAL_IP_ADDRESS, "192.0.2.1"), number(Tag.PORTAL_PORT, 3260))
A = text(Tag.ISCSI_NAME, "iqn.2026-11.org.example:a")
E = text(Tag.ENTITY_IDENTIFIER, "entity")
PORT = tuple(value for _, value in P)
GROUP_OF_P = (Attribute(Tag.PG_PORTAL_IP_ADDRESS, PORT[0]), Attribute(Tag.PG_PORTAL_PORT, PORT[1]))
TAG_1, TAG_NONE = number(Tag.PORTAL_GROUP_TAG, 1), Attribute(Tag.PORTAL_GROUP_TAG)


def kinds(*attributes, beside=None):
    return [found.kind for found in read_objects(attributes, beside)]


@pytest.mark.clause("RFC4171 5.6.5.1")
def test_each_key_begins_an_object():
    found = read_objects([E, number(6, 30), *P, A, number(33, 1), text(34, "alias")])
    assert [each.kind for each in found] == [Kind.ENTITY, Kind.PORTAL, Kind.NODE]
    assert found[2].values == {32: A.value, 33: b"\0\0\0\1", 34: b"alias\0\0\0"}
    assert found[1].key == PORT
    assert found[1].attributes == P


@pytest.mark.clause("RFC4171 5.6.5.1")
def test_portal_group_stands_inside_a_node_or_a_portal_or_alone():
    expected = group(A.value, PORT, TAG_1.value)
    name = Attribute(Tag.PG_ISCSI_NAME, A.value)
    assert expected in read_objects([A, TAG_1, *GROUP_OF_P])
    assert expected in read_objects([*P, TAG_1, name])
    assert read_objects([name, *GROUP_OF_P, TAG_1]) == [expected]
    assert read_objects([A, name, *GROUP_OF_P, TAG_1])[1] == expected


def test_tag_holds_until_the_next_tag_or_object():
    other = (address(Tag.PG_PORTAL_IP_ADDRESS, "192.0.2.2"), number(Tag.PG_PORTAL_PORT, 3260))
    groups = [o for o in read_objects([A, TAG_1, *GROUP_OF_P, TAG_NONE, *other]) if o.kind is Kind.GROUP]
    assert [found.values[Tag.PORTAL_GROUP_TAG] for found in groups] == [TAG_1.value, b""]


def test_attributes_before_the_first_key_belong_to_the_object_beside():
    beside = Object(Kind.NODE, {Tag.ISCSI_NAME: A.value})
    [found] = read_objects([text(34, "alias")], beside)
    assert found.values[Tag.ISCSI_ALIAS] == b"alias\0\0\0"
    assert kinds(E, beside=beside) == [Kind.ENTITY]
    assert beside.values == {Tag.ISCSI_NAME: A.value}


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ([Attribute(9999)], Status.ATTRIBUTE_NOT_IMPLEMENTED),
        ([number(33, 1)], Status.MESSAGE_FORMAT_ERROR),
        ([A, number(6, 30)], Status.MESSAGE_FORMAT_ERROR),
        ([A, *GROUP_OF_P], Status.MESSAGE_FORMAT_ERROR),
    ],
)
def test_attribute_without_an_object_is_refused(attributes, status):
    with pytest.raises(Refused) as refused:
        read_objects(attributes)
    assert refused.value.status == status


def test_object_without_its_whole_key_is_refused_when_it_is_asked_for():
    [portal] = read_objects(P[:1])
    with pytest.raises(Refused):
        _ = portal.key
