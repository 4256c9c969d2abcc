"""REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS; the states themselves are in `port_groups`.

Source: SPC4r37 6.37, 6.45
"""

from math import ceil

from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.port_groups import MAX_GROUPS, QUALIFIERS, SETTABLE, AccessState, PortGroup
from iscsi_target.scsi.state.task import Call, Done, Regroup
from iscsi_target.scsi.status import (
    InvalidFieldInCdb,
    InvalidFieldInParameterList,
    LogicalUnitNotAccessible,
    ParameterListLengthError,
)
from iscsi_target.wire.layout import B3, B4, B5, U8, U16, U32, Bit, Layout

LENGTH_ONLY, EXTENDED = 0b000, 0b001  # PARAMETER DATA FORMAT. Source: SPC4r37 6.37
LONGEST_TRANSITION = 255  # seconds that IMPLICIT TRANSITION TIME can say


class ReportTargetPortGroups(Layout):
    """REPORT TARGET PORT GROUPS.

    Source: SPC4r37 6.37
    """

    operation_code: U8 = 0xA3
    parameter_data_format: B3 = 0
    service_action: B5 = 0x0A
    _1: U32 = 0
    allocation_length: U32 = 0
    _2: U8 = 0
    control: U8 = 0


class SetTargetPortGroups(Layout):
    """SET TARGET PORT GROUPS.

    Source: SPC4r37 6.45
    """

    operation_code: U8 = 0xA4
    _1: B3 = 0
    service_action: B5 = 0x0A
    _2: U32 = 0
    parameter_list_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class LengthHeader(Layout):
    """How much follows.

    Source: SPC4r37 6.37
    """

    return_data_length: U32 = 0


class ExtendedHeader(Layout):
    """What follows the length in the extended form.

    Source: SPC4r37 6.37
    """

    _1: Bit = False
    format_type: B3 = EXTENDED
    _2: B4 = 0
    implicit_transition_time: U8 = 0
    _3: U16 = 0


class GroupDescriptor(Layout):
    """One target port group; its ports follow. Every state but logical block dependent is supported.

    Source: SPC4r37 6.37
    """

    pref: Bit = False
    _1: B3 = 0
    asymmetric_access_state: B4 = 0
    t_sup: Bit = False
    o_sup: Bit = True
    _2: Bit = False
    lbd_sup: Bit = False
    u_sup: Bit = True
    s_sup: Bit = True
    an_sup: Bit = True
    ao_sup: Bit = True
    target_port_group: U16 = 0
    _3: U8 = 0
    status_code: U8 = 0
    _4: U8 = 0
    target_port_count: U8 = 0


class PortDescriptor(Layout):
    """One target port.

    Source: SPC4r37 6.37
    """

    _1: U16 = 0
    relative_target_port_identifier: U16 = 0


class SetDescriptor(Layout):
    """What one target port group is to become.

    Source: SPC4r37 6.45
    """

    _1: B4 = 0
    asymmetric_access_state: B4 = 0
    _2: U8 = 0
    target_port_group: U16 = 0


LIST_HEADER_BYTES = 4  # reserved, before the descriptors of SET TARGET PORT GROUPS
MAX_LIST_BYTES = LIST_HEADER_BYTES + MAX_GROUPS * SetDescriptor.size


def has_groups(device: Device) -> bool:
    """Returns True when access is asymmetric."""
    return bool(device.port_groups)


def lets_set(device: Device) -> bool:
    """Returns True when initiators may change states."""
    return bool(device.port_groups) and device.features.explicit_access


def report_target_port_groups(device: Device, cdb: ReportTargetPortGroups, call: Call) -> Done:
    """Answers REPORT TARGET PORT GROUPS; a new configuration may have taken all groups away since the command came.

    raises   InvalidFieldInCdb for a form that there is not
    Source: SPC4r37 6.37
    """
    if cdb.parameter_data_format not in (LENGTH_ONLY, EXTENDED):
        raise InvalidFieldInCdb(ReportTargetPortGroups, "parameter_data_format")
    data = b"".join(_descriptor(device, number, group) for number, group in device.port_groups.items())
    if cdb.parameter_data_format == EXTENDED:
        longest_s = max((group.transition_s for group in device.port_groups.values()), default=0.0)
        data = ExtendedHeader(implicit_transition_time=min(ceil(longest_s), LONGEST_TRANSITION)).pack() + data
    header = LengthHeader(return_data_length=len(data))
    return Done((header.pack() + data)[: cdb.allocation_length])


def _descriptor(device: Device, number: int, group: PortGroup) -> bytes:
    ports = sorted(port.relative_identifier for port in device.ports.values() if port.port_group == number)
    descriptor = GroupDescriptor(
        pref=group.preferred,
        asymmetric_access_state=group.state,
        t_sup=group.transition_s > 0,
        target_port_group=number,
        status_code=group.status_code,
        target_port_count=len(ports),
    )
    return descriptor.pack() + b"".join(PortDescriptor(relative_target_port_identifier=port).pack() for port in ports)


def wanted_by_set_target_port_groups(device: Device, cdb: SetTargetPortGroups) -> int:
    """Returns the bytes of Data-Out that SET TARGET PORT GROUPS asks for; none when there are too many."""
    return cdb.parameter_list_length if cdb.parameter_list_length <= MAX_LIST_BYTES else 0


def set_target_port_groups(device: Device, cdb: SetTargetPortGroups, call: Call) -> Regroup | Done:
    """Answers SET TARGET PORT GROUPS; it is over when the states are reached.

    raises   ParameterListLengthError for a list that is no whole number of descriptors or ends too early;
             InvalidFieldInParameterList for a group that there is not, or a state that it cannot be set to;
             LogicalUnitNotAccessible when one of the groups is changing already
    Source: SPC4r37 6.45
    """
    length = cdb.parameter_list_length
    if not length:
        return Done()
    if length > MAX_LIST_BYTES or length % SetDescriptor.size or len(call.data_out) < length:
        raise ParameterListLengthError
    wanted: dict[int, AccessState] = {}
    for place in range(LIST_HEADER_BYTES, length, SetDescriptor.size):
        descriptor = SetDescriptor.unpack(call.data_out, place)
        wanted[descriptor.target_port_group] = _settable(device, descriptor, place)
    if any(device.port_groups[number].transitioning for number in wanted):
        raise LogicalUnitNotAccessible(QUALIFIERS[AccessState.TRANSITIONING])
    return Regroup(wanted)


def _settable(device: Device, descriptor: SetDescriptor, place: int) -> AccessState:
    if descriptor.target_port_group not in device.port_groups:
        raise InvalidFieldInParameterList(place + SetDescriptor.location("target_port_group").byte)
    if descriptor.asymmetric_access_state not in SETTABLE:
        at = SetDescriptor.location("asymmetric_access_state")
        raise InvalidFieldInParameterList(place + at.byte, at.bit)
    return AccessState(descriptor.asymmetric_access_state)
