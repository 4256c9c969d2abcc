"""What form the value of each attribute has, and the one spelling in which equal values are equal bytes."""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import Attribute, DoubleWord, Tag
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.wire.names import InadmissibleValue, iscsi_name


class Form(Enum):
    """The form of a value."""

    NUMBER = auto()
    TEXT = auto()
    NAME = auto()
    ADDRESS = auto()
    TIMESTAMP = auto()


# All others are numbers. Source: RFC4171 6.1
FORMS: Final[Mapping[int, Form]] = {
    Tag.ENTITY_IDENTIFIER: Form.TEXT,
    Tag.MANAGEMENT_IP_ADDRESS: Form.ADDRESS,
    Tag.TIMESTAMP: Form.TIMESTAMP,
    Tag.PORTAL_IP_ADDRESS: Form.ADDRESS,
    Tag.PORTAL_SYMBOLIC_NAME: Form.TEXT,
    Tag.ISCSI_NAME: Form.NAME,
    Tag.ISCSI_ALIAS: Form.TEXT,
    Tag.ISCSI_AUTH_METHOD: Form.TEXT,
    Tag.PG_ISCSI_NAME: Form.NAME,
    Tag.PG_PORTAL_IP_ADDRESS: Form.ADDRESS,
    Tag.DDS_SYMBOLIC_NAME: Form.TEXT,
    Tag.DD_SYMBOLIC_NAME: Form.TEXT,
    Tag.DD_MEMBER_ISCSI_NAME: Form.NAME,
}


def normalised(found: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """Returns attributes with their values spelled the one way; empty ones stay empty.

    raises    Refused for a value that has not the form of its attribute, or an attribute that is not known
    """
    return tuple(Attribute(tag, _normalised(tag, value)) if value else Attribute(tag) for tag, value in found)


def name_value(name: str) -> bytes:
    """Returns the value of an iSCSI name; raises Refused when it is none."""
    try:
        return attributes.text(Tag.ISCSI_NAME, iscsi_name(name)).value
    except InadmissibleValue as error:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, str(error)) from None


def _normalised(tag: int, value: bytes) -> bytes:
    if tag not in set(Tag):
        raise Refused(Status.ATTRIBUTE_NOT_IMPLEMENTED, f"attribute {tag}")
    match FORMS.get(tag, Form.NUMBER):
        case Form.NUMBER:
            attributes.read_number(value)
        case Form.ADDRESS:
            attributes.read_address(value)
        case Form.TIMESTAMP:
            if len(value) != DoubleWord.size:
                raise Refused(Status.MESSAGE_FORMAT_ERROR, f"a time stamp of {len(value)} bytes")
        case Form.NAME:
            return name_value(attributes.read_text(value))
        case Form.TEXT:
            return attributes.text(tag, attributes.read_text(value)).value
    return value
