"""What all PDUs share: opcodes, the tag that means none, and the part of the header that is read before the opcode is.

Fields are spelled as in the standard's figures.
"""

from enum import IntEnum
from typing import Final

from iscsi_target.wire.layout import B6, U8, U24, U32, Bit, Bytes4, Bytes8, Bytes16, Layout

NO_TAG: Final = 0xFFFFFFFF  # "no task", "no transfer"


class Opcode(IntEnum):
    """Names the opcodes.

    Source: RFC7143 11.2.1.2
    """

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK_REQUEST = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    READY_TO_TRANSFER = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


class BasicHeader(Layout):
    """What framing needs of every PDU, and the CmdSN, which has one place in all requests that are numbered.

    Source: RFC7143 11.2.1, 4.2.2.1
    """

    _1: Bit = False
    immediate: Bit = False
    opcode: B6 = 0
    _2: U24 = 0
    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0
    _3: Bytes8 = bytes(8)
    initiator_task_tag: U32 = 0
    _4: Bytes4 = bytes(4)
    cmd_sn: U32 = 0
    _5: Bytes4 = bytes(4)
    _6: Bytes16 = bytes(16)
