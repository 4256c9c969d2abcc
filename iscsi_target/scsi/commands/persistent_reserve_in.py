"""PERSISTENT RESERVE IN: parameter data of the state, cut to the allocation length."""

from collections.abc import Iterator
from typing import assert_never

from iscsi_target.scsi.layouts.cdb import PersistentReserveIn
from iscsi_target.scsi.layouts.reservation_pages import (
    CapabilitiesData,
    FullStatusDescriptor,
    ReservationDescriptor,
    ReservationHeader,
    ReservationKey,
)
from iscsi_target.scsi.layouts.transport_id import pack_device_transport_id, pack_transport_id, transport_id_bytes
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import InAction, Personality, Quirk
from iscsi_target.scsi.reservations.reservations import LU_SCOPE, Reservations
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.wire.bits import swapped
from iscsi_target.wire.layout import FieldPointer

# Which quirks leave a record out that the allocation length cuts
WHOLE_RECORDS = {
    InAction.READ_KEYS: {Quirk.KEYS_WHOLE, Quirk.KEYS_RECOUNTED},
    InAction.READ_FULL_STATUS: {Quirk.STATUS_RECOUNTED, Quirk.STATUS_ROOM_OVERRATED, Quirk.STATUS_LAST_DROPPED},
}
ALL_PORTS_QUIRKS = frozenset({Quirk.ALL_PORTS_BY_BIT, Quirk.ALL_PORTS_ONCE})
RECOUNTED = {Quirk.KEYS_RECOUNTED, Quirk.STATUS_RECOUNTED}


def persistent_reserve_in(device: Device, cdb: PersistentReserveIn, call: Call) -> Done:
    """Answers PERSISTENT RESERVE IN.

    raises   ReservationConflict while the unit is reserved with RESERVE, whoever asks
    Source: SPC4r37 6.15, SPC2r20 5.5.1
    """
    action = InAction(cdb.service_action)
    personality = device.personality
    if device.spc2_excludes(call.nexus):
        raise personality.refusal(Rule.SPC2_RESERVATION_PRESENT, action)
    if cdb.allocation_length < personality.shortest_allocations.get(action, 0):
        raise personality.refusal(Rule.ALLOCATION_SHORT, action, FieldPointer(7, 7))
    data = _parameter_data(device, action, cdb.allocation_length)
    return Done(_truncated(data, action, cdb.allocation_length, personality))


def _parameter_data(device: Device, action: InAction, allocation_length: int) -> bytes:
    state = device.reservations
    match action:
        case InAction.READ_KEYS:
            listed = {nexus: state.registrations[nexus] for nexus in _listed(device)}
            return read_keys(state._replace(registrations=listed))
        case InAction.READ_RESERVATION:
            return read_reservation(state)
        case InAction.REPORT_CAPABILITIES:
            return report_capabilities(state, device.personality)
        case InAction.READ_FULL_STATUS:
            return read_full_status(device, allocation_length)
        case _:
            assert_never(action)


def _truncated(data: bytes, action: InAction, length: int, personality: Personality) -> bytes:
    """Returns what fits into the allocation length; the standard cuts anywhere and changes nothing.

    Source: SPC4r37 4.2.5.6
    """
    if length < ReservationHeader.size and personality.has(Quirk.NOTHING_WHEN_SHORT):
        return b""
    quirks = personality.quirks & WHOLE_RECORDS.get(action, set())
    if not quirks or length < ReservationHeader.size:
        return data[:length]
    most = length - (Quirk.STATUS_LAST_DROPPED in quirks)
    if Quirk.STATUS_ROOM_OVERRATED in quirks:
        most += ReservationHeader.size + FullStatusDescriptor.size
    end = max(end for end in _record_ends(data, action) if end <= max(most, ReservationHeader.size))
    header = ReservationHeader.unpack(data)
    if quirks & RECOUNTED:
        header = header.replace(additional_length=end - header.size)
    return (header.pack() + data[header.size : end])[:length]


def _record_ends(data: bytes, action: InAction) -> Iterator[int]:
    """Returns where the header and each key or descriptor ends."""
    end = ReservationHeader.size
    yield end
    while end < len(data):
        if action is InAction.READ_KEYS:
            end += ReservationKey.size
        else:
            descriptor = FullStatusDescriptor.unpack(data, end)
            end += descriptor.size + descriptor.additional_descriptor_length
        yield end


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
        allow_commands=personality.allow_commands,
        ptpl_a=state.aptpl,
    ).pack()


def read_full_status(device: Device, allocation_length: int) -> bytes:
    """Returns READ FULL STATUS parameter data; a target port that is gone has the relative identifier zero.

    allocation_length   descriptors that begin beyond it are counted and left out, since there may be thousands
    Source: SPC4r37 6.15.5
    """
    descriptors, length = [], ReservationHeader.size
    for nexus in _listed(device):
        if length < allocation_length:
            descriptors.append(_descriptor(device, nexus))
            length += len(descriptors[-1])
        else:
            length += FullStatusDescriptor.size + _transport_id_bytes(device, nexus)
    header = ReservationHeader(
        pr_generation=device.reservations.generation, additional_length=length - ReservationHeader.size
    )
    return header.pack() + b"".join(descriptors)


def _transport_id_bytes(device: Device, nexus: Nexus) -> int:
    if device.personality.has(Quirk.DEVICE_TRANSPORT_IDS):
        return len(_transport_id(device, nexus))
    return transport_id_bytes(nexus.initiator_port)


def _transport_id(device: Device, nexus: Nexus) -> bytes:
    names_device = device.personality.has(Quirk.DEVICE_TRANSPORT_IDS)
    return (pack_device_transport_id if names_device else pack_transport_id)(nexus.initiator_port)


def _descriptor(device: Device, nexus: Nexus) -> bytes:
    state, personality = device.reservations, device.personality
    everywhere = bool(personality.quirks & ALL_PORTS_QUIRKS) and _is_everywhere(device, nexus)
    shown = _siblings(device, nexus) if everywhere and personality.has(Quirk.ALL_PORTS_ONCE) else [nexus]
    reservation = state.reservation if any(map(state.holds, shown)) else None
    by_bit = everywhere and personality.has(Quirk.ALL_PORTS_BY_BIT)
    port = None if by_bit else device.ports.get(nexus.target_port)
    number = 0 if port is None else port.relative_identifier
    if personality.has(Quirk.PORT_NUMBER_SWAPPED):
        number = swapped(number)
    transport_id = _transport_id(device, nexus)
    descriptor = FullStatusDescriptor(
        reservation_key=state.registrations[nexus],
        all_tg_pt=by_bit,
        r_holder=reservation is not None,
        scope=LU_SCOPE,
        type=0 if reservation is None else reservation.type,
        relative_target_port_identifier=number,
        additional_descriptor_length=len(transport_id),
    )
    return descriptor.pack() + transport_id


def _listed(device: Device) -> list[Nexus]:
    """Returns the registered nexuses that have an entry of their own."""
    registered = list(device.reservations.registrations)
    if not device.personality.has(Quirk.ALL_PORTS_ONCE):
        return registered
    return [nexus for nexus in registered if not _is_everywhere(device, nexus) or nexus == _siblings(device, nexus)[0]]


def _is_everywhere(device: Device, nexus: Nexus) -> bool:
    """Returns True when an initiator port is registered with the same key through all of several target ports."""
    keys = {device.reservations.registrations.get(each) for each in _siblings(device, nexus)}
    return len(device.ports) > 1 and len(keys) == 1 and None not in keys


def _siblings(device: Device, nexus: Nexus) -> list[Nexus]:
    """Returns the nexuses of the same initiator port through every target port."""
    return [Nexus(nexus.initiator_port, port) for port in device.ports]


def _with_header(state: Reservations, data: bytes) -> bytes:
    return ReservationHeader(pr_generation=state.generation, additional_length=len(data)).pack() + data
