"""Persistent reservations as JSON. Nodes A and B at port P; A holds."""

import copy
import json

import pytest

from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservation_record import (
    MAX_TIME_S,
    InvalidRecord,
    cause_record,
    from_record,
    nexus_record,
    to_record,
)
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations

P = TargetPort("iqn.2026-01.org.example:disks", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes.fromhex("80000000000a")), P)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), P)
RESERVE = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 1234.5)
HELD = Reservations(
    registrations={A: 0xA1, B: (1 << 64) - 1},
    reservation=Reservation(ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, A, RESERVE),
    generation=7,
    aptpl=True,
)
RECORD = {
    "generation": 7,
    "aptpl": True,
    "lost": False,
    "registrations": [
        {
            "initiator": "iqn.2026-01.org.example:a",
            "isid": "80000000000a",
            "target": "iqn.2026-01.org.example:disks",
            "portal_group_tag": 1,
            "key": "0xa1",
        },
        {
            "initiator": "iqn.2026-01.org.example:b",
            "isid": "000000000000",
            "target": "iqn.2026-01.org.example:disks",
            "portal_group_tag": 1,
            "key": "0xffffffffffffffff",
        },
    ],
    "reservation": {
        "type": 5,
        "holder": {
            "initiator": "iqn.2026-01.org.example:a",
            "isid": "80000000000a",
            "target": "iqn.2026-01.org.example:disks",
            "portal_group_tag": 1,
        },
        "made_by": {
            "command": "PERSISTENT RESERVE OUT, RESERVE",
            "time": 1234.5,
            "nexus": {
                "initiator": "iqn.2026-01.org.example:a",
                "isid": "80000000000a",
                "target": "iqn.2026-01.org.example:disks",
                "portal_group_tag": 1,
            },
        },
    },
}

Place = tuple[str | int, ...]


def changed(place: Place, value: object) -> object:
    """A record with another value at one place."""
    record = copy.deepcopy(RECORD)
    within: object = record
    for step in place[:-1]:
        within = within[step]  # type: ignore[index]  # the place is one of the record
    within[place[-1]] = value  # type: ignore[index]  # likewise
    return record


def test_record_has_names_numbers_and_keys_as_they_are_written_elsewhere():
    assert to_record(HELD) == RECORD
    assert from_record(RECORD) == HELD


@pytest.mark.parametrize(
    "state",
    [
        Reservations(),
        Reservations(generation=0xFFFF_FFFF),
        Reservations(lost=True),
        HELD._replace(reservation=None),
        HELD._replace(reservation=Reservation(ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS, None, RESERVE)),
        HELD._replace(reservation=Reservation(ReservationType.WRITE_EXCLUSIVE, B, RESERVE._replace(nexus=OPERATOR))),
    ],
    ids=["nothing", "last generation", "lost", "no reservation", "all registrants", "by the operator"],
)
def test_state_comes_back_from_json_as_it_was(state):
    assert from_record(json.loads(json.dumps(to_record(state)))) == state


def test_registrations_keep_their_order():
    found = from_record(to_record(HELD._replace(registrations={B: 1, A: 2})))
    assert list(found.registrations) == [B, A]


def test_operator_has_no_nexus():
    assert nexus_record(OPERATOR) is None
    assert cause_record(RESERVE._replace(nexus=OPERATOR))["nexus"] is None


@pytest.mark.parametrize("record", [None, [], "", 0, True, {}, {"registrations": []}], ids=repr)
def test_what_is_no_record_is_refused(record):
    with pytest.raises(InvalidRecord):
        from_record(record)


@pytest.mark.parametrize("missing", RECORD)
def test_record_without_one_of_its_parts_is_refused(missing):
    with pytest.raises(InvalidRecord, match=missing):
        from_record({name: value for name, value in RECORD.items() if name != missing})


FIRST: Place = ("registrations", 0)
FIRST_ENTRY = to_record(HELD._replace(registrations={A: 0xA1}))["registrations"][0]  # type: ignore[index]  # a list
REFUSED: list[tuple[Place, object, str]] = [
    (("generation",), -1, "0..4294967295"),
    (("generation",), 1 << 32, "0..4294967295"),
    (("generation",), True, "0..4294967295"),
    (("generation",), 7.0, "0..4294967295"),
    (("aptpl",), 1, "true or false"),
    (("lost",), None, "true or false"),
    (("lost",), True, "nothing is known"),
    (("registrations",), {}, "not a list"),
    (("registrations", 1), copy.deepcopy(FIRST_ENTRY), "twice"),
    (("registrations", 0), "A", "instead of an object"),
    ((*FIRST, "key"), 161, "instead of a text"),
    ((*FIRST, "key"), "0x0", "no reservation key"),
    ((*FIRST, "key"), "-0xa1", "no reservation key"),
    ((*FIRST, "key"), "0x10000000000000000", "no reservation key"),
    ((*FIRST, "key"), "key", "invalid literal"),
    ((*FIRST, "key"), "0xA1", "another way"),
    ((*FIRST, "key"), " 0x_a1", "another way"),
    ((*FIRST, "isid"), "80000000000", "fromhex"),
    ((*FIRST, "isid"), "8000000000", "six bytes"),
    ((*FIRST, "initiator"), "node a", "iSCSI name"),
    ((*FIRST, "initiator"), "iqn.2026-01.org.example:A", "another way"),
    ((*FIRST, "initiator"), "iqn.\ud800", "surrogates"),
    ((*FIRST, "portal_group_tag"), 65536, "0..65535"),
    ((*FIRST, "colour"), "blue", "another way"),
    (("reservation", "type"), 2, "ReservationType"),
    (("reservation", "type"), 7, "not registered"),
    (("reservation", "holder"), None, "not registered"),
    (("reservation", "holder", "isid"), "000000000001", "not registered"),
    (("reservation", "made_by"), None, "instead of an object"),
    (("reservation", "made_by", "command"), None, "instead of a text"),
    (("reservation", "made_by", "command"), "\udc00", "surrogates"),
    (("reservation", "made_by", "time"), "now", "time"),
    (("reservation", "made_by", "time"), True, "time"),
    (("reservation", "made_by", "time"), -1, "time"),
    (("reservation", "made_by", "time"), float("nan"), "time"),
    (("reservation", "made_by", "time"), float("inf"), "time"),
    (("reservation", "made_by", "time"), 10**400, "time"),
]


@pytest.mark.parametrize("place, value, reason", REFUSED, ids=lambda each: repr(each)[:40])
def test_record_with_a_wrong_part_is_refused_whole(place, value, reason):
    with pytest.raises(InvalidRecord, match=reason):
        from_record(changed(place, value))


def test_all_registrants_reservation_needs_a_registrant():
    record = to_record(Reservations()) | {"reservation": RECORD["reservation"] | {"type": 7, "holder": None}}  # type: ignore[operator]  # a table
    with pytest.raises(InvalidRecord, match="not registered"):
        from_record(record)


def test_every_time_that_is_accepted_can_be_shown():
    for time_s in (0, MAX_TIME_S):
        found = from_record(changed(("reservation", "made_by", "time"), time_s))
        assert found.reservation is not None
        assert " from iqn.2026-01.org.example:a,i,0x80000000000a at " in str(found.reservation.made_by)
