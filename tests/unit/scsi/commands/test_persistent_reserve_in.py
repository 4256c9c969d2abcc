"""The parameter data of PERSISTENT RESERVE IN, from states that are given. Nodes A and B; ports P and Q; unit 0.

The layouts are compared with bytes, since the standard draws them; when the command may be sent is not the business of
the module and is in `tests/conformance/reservations`.
"""

from dataclasses import replace

import pytest

from iscsi_target.scsi.commands.persistent_reserve_in import (
    persistent_reserve_in,
    read_full_status,
    read_keys,
    read_reservation,
    report_capabilities,
)
from iscsi_target.scsi.layouts.cdb import PersistentReserveIn
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, InAction, OutAction, ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.state.device import Device, PortIdentity
from iscsi_target.scsi.state.task import Call
from iscsi_target.scsi.status import ReservationConflict
from tests.unit.scsi.unit_bench import make_device

P, Q = (TargetPort("iqn.2026-01.org.example:p", tag) for tag in (1, 2))
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes.fromhex("00023D000001")), P)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes.fromhex("00023D000002")), Q)
A_ID = bytes.fromhex("4500002C") + b"iqn.2026-01.org.example:a,i,0x00023d000001\0\0"
B_ID = bytes.fromhex("4500002C") + b"iqn.2026-01.org.example:b,i,0x00023d000002\0\0"
KEYS = {A: 0x0102030405060708, B: 0xF1F2F3F4F5F6F7F8}
MADE_BY = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 0.0)


def state(kind: ReservationType | None = None, *, holder: Nexus | None = A, aptpl: bool = False) -> Reservations:
    """A and B are registered, and the holder has reserved if there is a type."""
    reservation = None if kind is None else Reservation(kind, None if kind.all_registrants else holder, MADE_BY)
    return Reservations(registrations=KEYS, reservation=reservation, generation=0x01020304, aptpl=aptpl)


def device(reservations: Reservations) -> Device:
    return replace(
        make_device(), reservations=reservations, ports={P: PortIdentity(0x0102, 1), Q: PortIdentity(0x0304, 1)}
    )


def descriptor(key: int, port: int, flags: int, scope_and_type: int) -> bytes:
    """A full status descriptor of a TransportID of 48 bytes."""
    return (
        key.to_bytes(8) + bytes(4) + bytes([flags, scope_and_type]) + bytes(4) + port.to_bytes(2) + bytes([0, 0, 0, 48])
    )


@pytest.mark.clause("SPC4r37 6.15.2")
def test_read_keys_is_generation_length_and_keys_in_the_order_of_registration():
    assert read_keys(state()) == bytes.fromhex("01020304 00000010 0102030405060708 F1F2F3F4F5F6F7F8")
    assert read_keys(Reservations(generation=0xFFFF_FFFF)) == bytes.fromhex("FFFFFFFF 00000000")


@pytest.mark.clause("SPC4r37 6.15.3")
def test_read_reservation_without_one_has_no_descriptor():
    assert read_reservation(state()) == bytes.fromhex("01020304 00000000")


@pytest.mark.clause("SPC4r37 6.15.3")
@pytest.mark.parametrize("kind", ReservationType)
def test_read_reservation_has_the_key_of_the_one_holder_and_the_type(kind):
    key = "0000000000000000" if kind.all_registrants else "F1F2F3F4F5F6F7F8"
    expected = bytes.fromhex(f"01020304 00000010 {key} 00000000 00 0{kind:x} 0000")
    assert read_reservation(state(kind, holder=B)) == expected


@pytest.mark.clause("SPC4r37 6.15.4")
@pytest.mark.parametrize(
    "personality, flags",
    [
        (STRICT, 0x9D),
        (STRICT._replace(out_actions=STRICT.out_actions - {OutAction.REPLACE_LOST_RESERVATION}), 0x1D),
        (STRICT._replace(compatible_handling=False), 0x8D),
        (STRICT._replace(specify_initiator_ports=False), 0x95),
        (STRICT._replace(all_target_ports=False), 0x99),
        (STRICT._replace(persists=False), 0x9C),
    ],
    ids=("all", "RLR_C", "CRH", "SIP_C", "ATP_C", "PTPL_C"),
)
def test_report_capabilities_has_a_bit_for_each_ability(personality, flags):
    assert report_capabilities(state(), personality) == bytes([0, 8, flags, 0xC0, 0xEA, 0x01, 0, 0])


@pytest.mark.clause("SPC4r37 6.15.4")
def test_report_capabilities_tells_whether_the_state_survives_a_power_loss():
    assert report_capabilities(state(aptpl=True), STRICT) == bytes.fromhex("0008 9DC1 EA01 0000")


@pytest.mark.clause("SPC4r37 6.15.5")
@pytest.mark.parametrize("kind", ReservationType)
def test_read_full_status_has_scope_and_type_with_the_holders_only(kind):
    everybody = kind.all_registrants
    expected = descriptor(KEYS[A], 0x0102, everybody, kind if everybody else 0) + A_ID
    expected += descriptor(KEYS[B], 0x0304, 1, kind) + B_ID
    header = bytes.fromhex("01020304") + (2 * 72).to_bytes(4)
    assert read_full_status(device(state(kind, holder=B)), 0xFFFF) == header + expected


@pytest.mark.clause("SPC4r37 6.15.5")
def test_read_full_status_without_a_reservation_has_no_holder():
    expected = descriptor(KEYS[A], 0x0102, 0, 0) + A_ID + descriptor(KEYS[B], 0x0304, 0, 0) + B_ID
    assert read_full_status(device(state()), 0xFFFF) == bytes.fromhex("01020304 00000090") + expected
    assert read_full_status(device(Reservations()), 0xFFFF) == bytes(8)


def test_read_full_status_keeps_a_registration_of_a_port_that_is_gone():
    found = device(state())
    found.ports = {P: PortIdentity(0x0102, 1)}
    assert read_full_status(found, 0xFFFF)[8 + 72 :] == descriptor(KEYS[B], 0, 0, 0) + B_ID


@pytest.mark.clause("SPC4r37 4.2.5.6")
@pytest.mark.parametrize("action", InAction, ids=str)
def test_every_allocation_length_cuts_the_same_data(action):
    found = device(state(ReservationType.WRITE_EXCLUSIVE))
    whole = {
        InAction.READ_KEYS: read_keys(found.reservations),
        InAction.READ_RESERVATION: read_reservation(found.reservations),
        InAction.REPORT_CAPABILITIES: report_capabilities(found.reservations, STRICT),
        InAction.READ_FULL_STATUS: read_full_status(found, 0xFFFF),
    }[action]
    for length in (*range(len(whole) + 2), 0xFFFF):
        cdb = PersistentReserveIn(service_action=action, allocation_length=length)
        assert persistent_reserve_in(found, cdb, Call(B, b"", (0,))).data_in == whole[:length]


@pytest.mark.clause("SPC2r20 5.5.1")
@pytest.mark.parametrize("nexus", (A, B), ids=("holder", "another"))
@pytest.mark.parametrize("action", InAction, ids=str)
def test_nobody_reads_while_the_unit_is_reserved_with_reserve(action, nexus):
    found = device(Reservations())
    found.spc2_reservation = Spc2Reservation(A)
    call = Call(nexus, b"", (0,))
    with pytest.raises(ReservationConflict):
        persistent_reserve_in(found, PersistentReserveIn(service_action=action, allocation_length=8), call)
