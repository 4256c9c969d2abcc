"""PERSISTENT RESERVE IN: parameter data of the state, cut to the allocation length."""

from typing import assert_never

from iscsi_target.scsi.cdb import PersistentReserveIn
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.personality import InAction, Personality
from iscsi_target.scsi.reservation_pages import (
    CapabilitiesData,
    FullStatusDescriptor,
    ReservationDescriptor,
    ReservationHeader,
    ReservationKey,
)
from iscsi_target.scsi.reservations import LU_SCOPE, Reservations
from iscsi_target.scsi.rules import Rule
from iscsi_target.scsi.task import Call, Done
from iscsi_target.scsi.transport_id import pack_transport_id

# ALLOW COMMANDS: everything that the notes of table 65 leave open is allowed. Source: SPC4r37 6.15.4 table 208
ALLOWS_ALL = 0b100


def persistent_reserve_in(device: Device, cdb: PersistentReserveIn, call: Call) -> Done:
    """Answers PERSISTENT RESERVE IN.

    raises   ReservationConflict while the unit is reserved with RESERVE, whoever asks
    Source: SPC4r37 6.15, SPC2r20 5.5.1
    """
    action = InAction(cdb.service_action)
    if device.spc2_reservation.holder is not None:
        raise device.personality.refusal(Rule.SPC2_RESERVATION_PRESENT, action)
    state = device.reservations
    match action:
        case InAction.READ_KEYS:
            data = read_keys(state)
        case InAction.READ_RESERVATION:
            data = read_reservation(state)
        case InAction.REPORT_CAPABILITIES:
            data = report_capabilities(state, device.personality)
        case InAction.READ_FULL_STATUS:
            data = read_full_status(device)
        case _:
            assert_never(action)
    return Done(data[: cdb.allocation_length])


def read_keys(state: Reservations) -> bytes:
    """Returns READ KEYS parameter data: the key of every registration.

    Source: SPC4r37 6.15.2
    """
    keys = b"".join(ReservationKey(reservation_key=key).pack() for key in state.registrations.values())
    return _with_header(state, keys)


def read_reservation(state: Reservations) -> bytes:
    """Returns READ RESERVATION parameter data.

    Source: SPC4r37 6.15.3
    """
    if state.reservation is None:
        return _with_header(state, b"")
    descriptor = ReservationDescriptor(
        reservation_key=state.reservation_key, scope=LU_SCOPE, type=state.reservation.type
    )
    return _with_header(state, descriptor.pack())


def report_capabilities(state: Reservations, personality: Personality) -> bytes:
    """Returns REPORT CAPABILITIES parameter data.

    Source: SPC4r37 6.15.4
    """
    return CapabilitiesData(
        rlr_c=personality.replaces_lost,
        crh=personality.compatible_handling,
        sip_c=personality.specify_initiator_ports,
        atp_c=personality.all_target_ports,
        ptpl_c=personality.persists,
        allow_commands=ALLOWS_ALL,
        ptpl_a=state.aptpl,
    ).pack()


def read_full_status(device: Device) -> bytes:
    """Returns READ FULL STATUS parameter data; a target port that is gone has the relative identifier zero.

    Source: SPC4r37 6.15.5
    """
    state = device.reservations
    descriptors = []
    for nexus, key in state.registrations.items():
        transport_id = pack_transport_id(nexus.initiator_port)
        port = device.ports.get(nexus.target_port)
        reservation = state.reservation if state.holds(nexus) else None
        descriptor = FullStatusDescriptor(
            reservation_key=key,
            r_holder=reservation is not None,
            scope=LU_SCOPE,
            type=0 if reservation is None else reservation.type,
            relative_target_port_identifier=0 if port is None else port.relative_identifier,
            additional_descriptor_length=len(transport_id),
        )
        descriptors.append(descriptor.pack() + transport_id)
    return _with_header(state, b"".join(descriptors))


def _with_header(state: Reservations, data: bytes) -> bytes:
    return ReservationHeader(pr_generation=state.generation, additional_length=len(data)).pack() + data
