"""Numbered entries, here pets: 2 "cat" and 5 "dog"."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, text
from iscsi_target.discovery.isns.entries import EntryKind
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.messages import Function, Request

PETS = EntryKind("pet", Tag.DD_ID, frozenset({Tag.DD_ID, Tag.DD_SYMBOLIC_NAME}), 3)


class Pet(NamedTuple):
    identifier: int
    name: str

    @property
    def attributes(self) -> Iterator[Attribute]:
        yield number(Tag.DD_ID, self.identifier)
        yield text(Tag.DD_SYMBOLIC_NAME, self.name)


CAT, DOG = Pet(2, "cat"), Pet(5, "dog")


def asked(*key: Attribute, wanted: tuple[Attribute, ...] = ()) -> Request:
    return Request(Function.DEV_ATTR_QRY, "iqn.2026-11.org.example:a", key, wanted)


def test_entries_are_found_by_all_attributes_of_the_key():
    assert PETS.query([CAT, DOG], asked(text(Tag.DD_SYMBOLIC_NAME, "dog"))).operating == tuple(DOG.attributes)
    both = PETS.query([CAT, DOG], asked(wanted=(Attribute(Tag.DD_ID),)))
    assert both.operating == (number(Tag.DD_ID, 2), number(Tag.DD_ID, 5))
    assert PETS.query([CAT, DOG], asked(number(Tag.DD_ID, 2), text(Tag.DD_SYMBOLIC_NAME, "dog"))).operating == ()


def test_entries_follow_each_other_by_their_numbers():
    first = PETS.following([CAT, DOG], asked(Attribute(Tag.DD_ID)))
    assert (first.key, first.operating) == ((number(Tag.DD_ID, 2),), tuple(CAT.attributes))
    assert PETS.following([CAT, DOG], asked(*first.key)).operating == tuple(DOG.attributes)
    with pytest.raises(Refused, match="no further pet"):
        PETS.following([CAT, DOG], asked(number(Tag.DD_ID, 5)))
    with pytest.raises(Refused, match="no identifier of a pet"):
        PETS.following([CAT, DOG], asked())


def test_a_new_entry_gets_the_number_that_is_given_or_the_next():
    assert PETS.new_identifier({}, ()) == 1
    assert PETS.new_identifier({2, 5}, ()) == 6
    assert PETS.new_identifier({2, 5}, (4,)) == 4
    for wrong in (0, 5):
        with pytest.raises(Refused, match=f"pet {wrong} is taken"):
            PETS.new_identifier({2, 5}, (wrong,))
    with pytest.raises(Refused, match="there are 3 pets") as refused:
        PETS.new_identifier({1, 2, 5}, ())
    assert refused.value.status == Status.BUSY


def test_a_name_belongs_to_one_entry():
    PETS.check_name([CAT, DOG], "cat", 2)
    PETS.check_name([CAT, DOG], "bird", 2)
    with pytest.raises(Refused, match="a pet is named 'cat' already"):
        PETS.check_name([CAT, DOG], "cat", 5)


def test_attributes_without_a_value_are_left_out_and_others_are_refused():
    assert PETS.read((Attribute(Tag.DD_ID), text(Tag.DD_SYMBOLIC_NAME, "cat"))) == [text(Tag.DD_SYMBOLIC_NAME, "cat")]
    with pytest.raises(Refused) as refused:
        PETS.read((number(Tag.DDS_STATUS, 1),))
    assert refused.value.status == Status.ATTRIBUTE_NOT_IMPLEMENTED
