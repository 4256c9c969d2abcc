"""Values in their one spelling."""

import pytest

from iscsi_target.discovery.isns.attributes import Attribute, Tag, address, number, text, timestamp
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import name_value, normalised

NAME = "iqn.2026-11.org.example:a"


@pytest.mark.clause("RFC4171 6.4.1")
def test_names_that_are_equal_become_equal_values():
    written = [text(Tag.ISCSI_NAME, NAME.upper().replace("IQN", "iqn")), text(Tag.PG_ISCSI_NAME, NAME)]
    assert [value for _, value in normalised(written)] == [name_value(NAME)] * 2


def test_superfluous_padding_of_a_text_goes():
    assert normalised([Attribute(Tag.ENTITY_IDENTIFIER, b"host" + bytes(8))]) == (text(Tag.ENTITY_IDENTIFIER, "host"),)


def test_right_values_and_empty_ones_stay():
    found = (number(6, 1), address(16, "192.0.2.1"), timestamp(1), Attribute(Tag.ISCSI_NAME), Attribute(9999))
    assert normalised(found) == found


@pytest.mark.parametrize(
    ("attribute", "status"),
    [
        (Attribute(9999, b"abcd"), Status.ATTRIBUTE_NOT_IMPLEMENTED),
        (Attribute(Tag.PORTAL_PORT, bytes(8)), Status.MESSAGE_FORMAT_ERROR),
        (Attribute(Tag.PORTAL_IP_ADDRESS, bytes(4)), Status.MESSAGE_FORMAT_ERROR),
        (Attribute(Tag.TIMESTAMP, bytes(4)), Status.MESSAGE_FORMAT_ERROR),
        (Attribute(Tag.ISCSI_NAME, b"nonsense"), Status.MESSAGE_FORMAT_ERROR),
        (Attribute(Tag.ISCSI_ALIAS, b"\xff\xff\xff\xff"), Status.MESSAGE_FORMAT_ERROR),
    ],
)
def test_value_of_a_wrong_form_is_refused(attribute, status):
    with pytest.raises(Refused) as refused:
        normalised([attribute])
    assert refused.value.status == status
