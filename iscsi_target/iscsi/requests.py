"""Header layouts of the PDUs that an initiator sends.

`data_segment_length` and `total_ahs_length` (in words of four bytes) are filled by `framing`; a value that is built for
sending leaves them zero.
"""

from iscsi_target.iscsi.header import NO_TAG, BasicHeader, Opcode
from iscsi_target.wire.choice import Choice
from iscsi_target.wire.layout import (
    B2,
    B3,
    B4,
    B6,
    B7,
    U8,
    U16,
    U24,
    U32,
    Bit,
    Bytes4,
    Bytes6,
    Bytes8,
    Bytes16,
    Layout,
)


class NopOut(Layout):
    """NOP-Out.

    Source: RFC7143 11.18
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.NOP_OUT
    final: Bit = True
    _2: B7 = 0
    _3: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    _4: Bytes16 = bytes(16)


class ScsiCommand(Layout):
    """SCSI Command; the priority is reserved below iSCSIProtocolLevel 2.

    Source: RFC7143 11.3, RFC7144 4
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.SCSI_COMMAND
    final: Bit = True
    read: Bit = False
    write: Bit = False
    _2: B2 = 0
    attributes: B3 = 0
    priority: B4 = 0
    _3: B4 = 0
    _4: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    expected_data_transfer_length: U32 = 0
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    cdb: Bytes16 = bytes(16)


class TaskManagementRequest(Layout):
    """Task Management Function Request.

    Source: RFC7143 11.5
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.TASK_MANAGEMENT_REQUEST
    final: Bit = True
    function: B7 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    referenced_task_tag: U32 = 0
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    ref_cmd_sn: U32 = 0
    exp_data_sn: U32 = 0
    _3: Bytes8 = bytes(8)


class LoginRequest(Layout):
    """Login Request.

    Source: RFC7143 11.12
    """

    _1: Bit = False
    immediate: Bit = True
    opcode: B6 = Opcode.LOGIN_REQUEST
    transit: Bit = False
    continue_: Bit = False
    _2: B2 = 0
    current_stage: B2 = 0
    next_stage: B2 = 0
    version_max: U8 = 0
    version_min: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    isid: Bytes6 = bytes(6)
    tsih: U16 = 0
    initiator_task_tag: U32 = 0
    cid: U16 = 0
    _3: U16 = 0
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    _4: Bytes16 = bytes(16)


class TextRequest(Layout):
    """Text Request.

    Source: RFC7143 11.10
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.TEXT_REQUEST
    final: Bit = True
    continue_: Bit = False
    _2: B6 = 0
    _3: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    _4: Bytes16 = bytes(16)


class DataOut(Layout):
    """SCSI Data-Out.

    Source: RFC7143 11.7
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.DATA_OUT
    final: Bit = False
    _2: B7 = 0
    _3: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    _4: Bytes4 = bytes(4)
    exp_stat_sn: U32 = 0
    _5: Bytes4 = bytes(4)
    data_sn: U32 = 0
    buffer_offset: U32 = 0
    _6: Bytes4 = bytes(4)


class LogoutRequest(Layout):
    """Logout Request.

    Source: RFC7143 11.14
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.LOGOUT_REQUEST
    final: Bit = True
    reason_code: B7 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    _3: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    cid: U16 = 0
    _4: U16 = 0
    cmd_sn: U32 = 0
    exp_stat_sn: U32 = 0
    _5: Bytes16 = bytes(16)


class SnackRequest(Layout):
    """SNACK Request.

    Source: RFC7143 11.16
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = Opcode.SNACK_REQUEST
    final: Bit = True
    _2: B3 = 0
    kind: B4 = 0
    _3: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    _4: Bytes4 = bytes(4)
    exp_stat_sn: U32 = 0
    _5: Bytes8 = bytes(8)
    begin_run: U32 = 0
    run_length: U32 = 0


Request = (
    NopOut | ScsiCommand | TaskManagementRequest | LoginRequest | TextRequest | DataOut | LogoutRequest | SnackRequest
)

REQUESTS: dict[int, type[Request]] = {
    Opcode.NOP_OUT: NopOut,
    Opcode.SCSI_COMMAND: ScsiCommand,
    Opcode.TASK_MANAGEMENT_REQUEST: TaskManagementRequest,
    Opcode.LOGIN_REQUEST: LoginRequest,
    Opcode.TEXT_REQUEST: TextRequest,
    Opcode.DATA_OUT: DataOut,
    Opcode.LOGOUT_REQUEST: LogoutRequest,
    Opcode.SNACK_REQUEST: SnackRequest,
}

AnyRequest = Request | BasicHeader  # the latter for an opcode that no request has

BASIC_HEADERS = Choice[AnyRequest]({}, BasicHeader)
"""Reads what all headers share; for a reader to which the rest does not matter."""

_FIRST_BITS = (0x00, 0x40, 0x80, 0xC0)  # beside the opcode: a reserved one, and the immediate bit

REQUEST_HEADERS = Choice[AnyRequest](
    {opcode | bits: layout for opcode, layout in REQUESTS.items() for bits in _FIRST_BITS}, BasicHeader
)
"""Reads the header of a request by its opcode."""
