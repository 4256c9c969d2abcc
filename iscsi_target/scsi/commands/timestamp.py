"""REPORT TIMESTAMP and SET TIMESTAMP: the clock of the unit, which is that of the host until an initiator sets it.

It runs on from there, and is the host's again when the server starts anew (TCMOS and SCSIP of the control extension
mode page say so). All nexuses share it.

Source: SPC4r37 5.2, 6.38, 6.46
"""

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import ParameterListLengthError
from iscsi_target.wire.layout import B3, B5, U8, U16, U32, U48, Layout

SET_BY_COMMAND, SET_OTHERWISE = 0b010, 0b011  # TIMESTAMP ORIGIN. Source: SPC4r37 5.2
AFTER_LENGTH_BYTES = 10  # of the data of REPORT TIMESTAMP
MODULUS = 1 << 48


class ReportTimestamp(Layout):
    """REPORT TIMESTAMP.

    Source: SPC4r37 6.38
    """

    operation_code: U8 = 0xA3
    _1: B3 = 0
    service_action: B5 = 0x0F
    _2: U32 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class SetTimestamp(Layout):
    """SET TIMESTAMP.

    Source: SPC4r37 6.46
    """

    operation_code: U8 = 0xA4
    _1: B3 = 0
    service_action: B5 = 0x0F
    _2: U32 = 0
    parameter_list_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class TimestampData(Layout):
    """What REPORT TIMESTAMP returns: milliseconds since the epoch.

    Source: SPC4r37 6.38
    """

    length: U16 = AFTER_LENGTH_BYTES
    _1: B5 = 0
    timestamp_origin: B3 = 0
    _2: U8 = 0
    timestamp: U48 = 0
    _3: U16 = 0


class TimestampParameters(Layout):
    """The parameter list of SET TIMESTAMP.

    Source: SPC4r37 6.46
    """

    _1: U32 = 0
    timestamp: U48 = 0
    _2: U16 = 0


def report_timestamp(device: Device, cdb: ReportTimestamp, call: Call) -> Done:
    """Answers REPORT TIMESTAMP.

    Source: SPC4r37 6.38
    """
    ahead_ms = device.clock_ahead_ms
    data = TimestampData(
        timestamp_origin=SET_OTHERWISE if ahead_ms is None else SET_BY_COMMAND,
        timestamp=(_host_ms(call) + (ahead_ms or 0)) % MODULUS,
    )
    return Done(data.pack()[: cdb.allocation_length])


def wanted_by_set_timestamp(device: Device, cdb: SetTimestamp) -> int:
    """Returns the bytes of Data-Out that SET TIMESTAMP asks for: no more than there is to say."""
    return min(cdb.parameter_list_length, TimestampParameters.size)


def set_timestamp(device: Device, cdb: SetTimestamp, call: Call) -> Done:
    """Answers SET TIMESTAMP; the other nexuses learn of it.

    raises   ParameterListLengthError for a list that ends too early
    Source: SPC4r37 6.46
    """
    if not cdb.parameter_list_length:
        return Done()
    if len(call.data_out) < TimestampParameters.size:
        raise ParameterListLengthError
    device.clock_ahead_ms = TimestampParameters.unpack(call.data_out).timestamp - _host_ms(call)
    return Done(attention=AttentionCode.TIMESTAMP_CHANGED)


def _host_ms(call: Call) -> int:
    return int(call.received_s * 1000)
