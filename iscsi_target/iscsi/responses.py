"""Header layouts of the PDUs that a target sends.

`data_segment_length` and `total_ahs_length` (in words of four bytes) are filled by `framing`; a value that is built for
sending leaves them zero.
"""

from iscsi_target.iscsi.header import NO_TAG, Opcode
from iscsi_target.wire.choice import Choice
from iscsi_target.wire.layout import B2, B3, B6, B7, U8, U16, U24, U32, Bit, Bytes3, Bytes4, Bytes6, Bytes8, Layout


class NopIn(Layout):
    """NOP-In.

    Source: RFC7143 11.19
    """

    opcode: U8 = Opcode.NOP_IN
    final: Bit = True
    _1: B7 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    _3: Bytes8 = bytes(8)
    _4: Bytes4 = bytes(4)


class ScsiResponse(Layout):
    """SCSI Response.

    Source: RFC7143 11.4
    """

    opcode: U8 = Opcode.SCSI_RESPONSE
    final: Bit = True
    _1: B2 = 0
    bidirectional_read_overflow: Bit = False
    bidirectional_read_underflow: Bit = False
    overflow: Bit = False
    underflow: Bit = False
    _2: Bit = False
    response: U8 = 0
    status: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    _3: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    snack_tag: U32 = 0
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    exp_data_sn: U32 = 0
    bidirectional_read_residual_count: U32 = 0
    residual_count: U32 = 0


class TaskManagementResponse(Layout):
    """Task Management Function Response.

    Source: RFC7143 11.6, RFC7144 4
    """

    opcode: U8 = Opcode.TASK_MANAGEMENT_RESPONSE
    final: Bit = True
    _1: B7 = 0
    response: U8 = 0
    _2: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    additional_response_information: Bytes3 = bytes(3)
    _3: U8 = 0
    _4: Bytes4 = bytes(4)
    initiator_task_tag: U32 = 0
    _5: Bytes4 = bytes(4)
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    _6: Bytes8 = bytes(8)
    _7: Bytes4 = bytes(4)


class LoginResponse(Layout):
    """Login Response.

    Source: RFC7143 11.13
    """

    opcode: U8 = Opcode.LOGIN_RESPONSE
    transit: Bit = False
    continue_: Bit = False
    _1: B2 = 0
    current_stage: B2 = 0
    next_stage: B2 = 0
    version_max: U8 = 0
    version_active: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    isid: Bytes6 = bytes(6)
    tsih: U16 = 0
    initiator_task_tag: U32 = 0
    _2: Bytes4 = bytes(4)
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    status_class: U8 = 0
    status_detail: U8 = 0
    _3: U16 = 0
    _4: Bytes8 = bytes(8)


class TextResponse(Layout):
    """Text Response.

    Source: RFC7143 11.11
    """

    opcode: U8 = Opcode.TEXT_RESPONSE
    final: Bit = True
    continue_: Bit = False
    _1: B6 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    _3: Bytes8 = bytes(8)
    _4: Bytes4 = bytes(4)


class DataIn(Layout):
    """SCSI Data-In.

    Source: RFC7143 11.7
    """

    opcode: U8 = Opcode.DATA_IN
    final: Bit = False
    acknowledge: Bit = False
    _1: B3 = 0
    overflow: Bit = False
    underflow: Bit = False
    status_present: Bit = False
    _2: U8 = 0
    status: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    data_sn: U32 = 0
    buffer_offset: U32 = 0
    residual_count: U32 = 0


class LogoutResponse(Layout):
    """Logout Response.

    Source: RFC7143 11.15
    """

    opcode: U8 = Opcode.LOGOUT_RESPONSE
    final: Bit = True
    _1: B7 = 0
    response: U8 = 0
    _2: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    _3: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    _4: Bytes4 = bytes(4)
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    _5: Bytes4 = bytes(4)
    time2wait: U16 = 0
    time2retain: U16 = 0
    _6: Bytes4 = bytes(4)


class ReadyToTransfer(Layout):
    """Ready To Transfer (R2T).

    Source: RFC7143 11.8
    """

    opcode: U8 = Opcode.READY_TO_TRANSFER
    final: Bit = True
    _1: B7 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    target_transfer_tag: U32 = NO_TAG
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    r2t_sn: U32 = 0
    buffer_offset: U32 = 0
    desired_data_transfer_length: U32 = 0


class AsyncMessage(Layout):
    """Asynchronous Message.

    Source: RFC7143 11.9
    """

    opcode: U8 = Opcode.ASYNC_MESSAGE
    final: Bit = True
    _1: B7 = 0
    _2: U16 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    lun: Bytes8 = bytes(8)
    initiator_task_tag: U32 = NO_TAG
    _3: Bytes4 = bytes(4)
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    async_event: U8 = 0
    async_vcode: U8 = 0
    parameter1: U16 = 0
    parameter2: U16 = 0
    parameter3: U16 = 0
    _4: Bytes4 = bytes(4)


class Reject(Layout):
    """Reject.

    Source: RFC7143 11.17
    """

    opcode: U8 = Opcode.REJECT
    final: Bit = True
    _1: B7 = 0
    reason: U8 = 0
    _2: U8 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    _3: Bytes8 = bytes(8)
    initiator_task_tag: U32 = NO_TAG
    _4: Bytes4 = bytes(4)
    stat_sn: U32 = 0
    exp_cmd_sn: U32 = 0
    max_cmd_sn: U32 = 0
    data_sn_or_r2t_sn: U32 = 0
    _5: Bytes8 = bytes(8)


Response = (
    NopIn
    | ScsiResponse
    | TaskManagementResponse
    | LoginResponse
    | TextResponse
    | DataIn
    | LogoutResponse
    | ReadyToTransfer
    | AsyncMessage
    | Reject
)

RESPONSES: dict[int, type[Response]] = {
    Opcode.NOP_IN: NopIn,
    Opcode.SCSI_RESPONSE: ScsiResponse,
    Opcode.TASK_MANAGEMENT_RESPONSE: TaskManagementResponse,
    Opcode.LOGIN_RESPONSE: LoginResponse,
    Opcode.TEXT_RESPONSE: TextResponse,
    Opcode.DATA_IN: DataIn,
    Opcode.LOGOUT_RESPONSE: LogoutResponse,
    Opcode.READY_TO_TRANSFER: ReadyToTransfer,
    Opcode.ASYNC_MESSAGE: AsyncMessage,
    Opcode.REJECT: Reject,
}

RESPONSE_HEADERS = Choice[Response](dict(RESPONSES), NopIn)
"""Reads the header of a PDU that a target has made, by its opcode."""
