"""The bytes of PERSISTENT RESERVE IN and OUT, and what they say.

Parameter data of PERSISTENT RESERVE IN is read whole, with its header, which must tell the length that follows it.
Parameter lists of PERSISTENT RESERVE OUT are made. Nothing is sent here: each bench has its own way to do that.
"""

from collections.abc import Iterator
from typing import NamedTuple

from iscsi_target.scsi.layouts.reservation_pages import (
    BasicParameterList,
    FullStatusDescriptor,
    MoveParameterList,
    ReservationDescriptor,
    ReservationHeader,
    ReservationKey,
    TransportIdList,
)
from iscsi_target.scsi.layouts.transport_id import pack_transport_id, unpack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort


class Holding(NamedTuple):
    """What READ RESERVATION tells of a reservation: the key and the type."""

    key: int
    type: int


class Registrant(NamedTuple):
    """What READ FULL STATUS tells of one registration."""

    name: str
    isid: bytes | None
    key: int
    holder: bool
    scope_and_type: tuple[int, int]
    port: int
    all_tg_pt: bool


# PERSISTENT RESERVE IN


def generation(data: bytes) -> int:
    """PRGENERATION, which READ KEYS, READ RESERVATION and READ FULL STATUS tell."""
    return ReservationHeader.unpack(data).pr_generation


def keys(data: bytes) -> list[int]:
    """READ KEYS: the keys."""
    body = _body(data)
    return [ReservationKey.unpack(body, at).reservation_key for at in range(0, len(body), ReservationKey.size)]


def holding(data: bytes) -> Holding | None:
    """READ RESERVATION: the key and the type, or None when there is no reservation."""
    body = _body(data)
    if not body:
        return None
    assert len(body) == ReservationDescriptor.size
    found = ReservationDescriptor.unpack(body)
    assert found.scope == 0
    return Holding(found.reservation_key, found.type)


def full_status(data: bytes) -> list[Registrant]:
    """READ FULL STATUS: the descriptors."""
    return list(_descriptors(_body(data)))


def _body(data: bytes) -> bytes:
    header = ReservationHeader.unpack(data)
    body = data[header.size :]
    assert header.additional_length == len(body)
    return body


def _descriptors(body: bytes) -> Iterator[Registrant]:
    at = 0
    while at < len(body):
        found = FullStatusDescriptor.unpack(body, at)
        port = unpack_transport_id(body, at + found.size)
        yield Registrant(
            port.name,
            port.isid,
            found.reservation_key,
            found.r_holder,
            (found.scope, found.type),
            found.relative_target_port_identifier,
            found.all_tg_pt,
        )
        at += found.size + found.additional_descriptor_length


# PERSISTENT RESERVE OUT


def basic(key: int = 0, new: int = 0, **flags: bool) -> bytes:
    """The basic parameter list; flags: aptpl, all_tg_pt, spec_i_pt."""
    return BasicParameterList(reservation_key=key, service_action_reservation_key=new, **flags).pack()


def listed(ids: bytes) -> bytes:
    """TransportIDs with their length before them, as they follow the basic parameter list with SPEC_I_PT."""
    return TransportIdList(transportid_parameter_data_length=len(ids)).pack() + ids


def moving(key: int, new: int, to: InitiatorPort, *, port: int, **fields: int) -> bytes:
    """The parameter list of REGISTER AND MOVE to an initiator port through a target port, named by its identifier.

    fields   of the parameter list, by name: unreg, aptpl and so on
    """
    transport_id = pack_transport_id(to)
    values = {
        "reservation_key": key,
        "service_action_reservation_key": new,
        "relative_target_port_identifier": port,
        "transportid_length": len(transport_id),
    } | fields
    return MoveParameterList(**values).pack() + transport_id  # type: ignore[arg-type]  # fields by name
