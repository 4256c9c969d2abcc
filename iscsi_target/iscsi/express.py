"""The express way of commands: from bytes to bytes, without a PDU, an event or a task in between.

Nearly all that an initiator sends is one READ or WRITE after the other, each whole in one PDU, in its turn, and done
in the moment in which it comes. What a session would find out about each of them is found out once for all that came
together: that nothing waits, which digests there are, that the window moves on. What is left to do for a command is to
compare its header with a pattern, to have it answered, and to fill in the header of the answer.

Whatever is not so is left where it is, and the session takes it from there, so the express way has no errors and no
states of its own; tests/property/test_express.py holds it against the way of `Session.receive`. That commands of a
pattern are alike for SCSI, too, is for the answering function to know.
"""

from collections.abc import Callable, Mapping

from iscsi_target.iscsi.connection import MAX_QUEUED_BYTES, Connection
from iscsi_target.iscsi.framing import HEADER_BYTES, NOTHING, Buffer, Incoming
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from iscsi_target.iscsi.session import Session
from iscsi_target.wire.pattern import filler, matcher
from iscsi_target.wire.serial import MODULUS

SIMPLE = 1  # RFC7143 11.3.1
ALIGNED = 4  # bytes that a data segment is padded to

Answer = Callable[[bytes, int, Buffer], Buffer | None]
"""Does a SIMPLE command: CDB, expected length in bytes, all Data-Out -> data, GOOD being the status.

The data is as long as is expected, or, when there was Data-Out, nothing. None does nothing and leaves the command.
"""

Answers = Mapping[bytes, Answer]
"""What does the commands for a LUN field."""

_match_read: Callable[[Buffer, int], tuple[bytes, int, int, int, bytes] | None] = matcher(
    ScsiCommand,
    ("lun", "initiator_task_tag", "expected_data_transfer_length", "cmd_sn", "cdb"),
    ("exp_stat_sn",),
    read=True,
    attributes=SIMPLE,
)
_match_write: Callable[[Buffer, int], tuple[int, bytes, int, int, int, bytes] | None] = matcher(
    ScsiCommand,
    ("data_segment_length", "lun", "initiator_task_tag", "expected_data_transfer_length", "cmd_sn", "cdb"),
    ("exp_stat_sn",),
    write=True,
    attributes=SIMPLE,
)
_data_in = filler(
    DataIn,
    ("data_segment_length", "initiator_task_tag", "stat_sn", "exp_cmd_sn", "max_cmd_sn"),
    final=True,
    status_present=True,
)
_response = filler(ScsiResponse, ("initiator_task_tag", "stat_sn", "exp_cmd_sn", "max_cmd_sn"))


def answer_plain(session: Session, connection: Connection, incoming: Incoming, answers: Answers) -> None:
    """Takes commands from what has come and queues what they come to, until one is not plain.

    Source: RFC7143 4.2.2, 11.3, 11.4, 11.7
    """
    tasks, numbers = session.tasks, session.numbers
    if connection.phase is not session or not connection.is_plain or not session.is_steady:
        return
    most_in, most_out = _room(session, connection) if tasks else (connection.most_in, connection.most_out)
    digests = connection.digests if any(connection.digests) else None
    view, position, end = incoming.view, incoming.position, incoming.end
    stat_sn, cmd_sn, max_cmd_sn = connection.stat_sn, numbers.expected, numbers.maximum
    output: list[Buffer] = []
    queued_bytes = connection.queued_bytes
    while end - position >= HEADER_BYTES and queued_bytes < MAX_QUEUED_BYTES:
        length, most = 0, most_in
        if (read := _match_read(view, position)) is not None:
            lun, tag, expected, number, cdb = read
        elif (write := _match_write(view, position)) is not None:
            length, lun, tag, expected, number, cdb = write
            most = most_out if length == expected else -1
        else:
            break
        begin, following = position + HEADER_BYTES, position + HEADER_BYTES + length
        if digests is not None:
            begin, following = digests.bounds(begin, following)
        answer = answers.get(lun)
        if answer is None or number != cmd_sn or tag in tasks or tag == NO_TAG or expected % ALIGNED:
            break
        if expected > most or following > end:
            break
        if digests is not None and not digests.are_right(view[position:begin], view[begin:following]):
            break
        data = answer(cdb, expected, view[begin : begin + length] if length else NOTHING)
        if data is None:
            break
        cmd_sn, max_cmd_sn = (cmd_sn + 1) % MODULUS, (max_cmd_sn + 1) % MODULUS
        if length:
            pdu: list[Buffer] = [_response(tag, stat_sn, cmd_sn, max_cmd_sn)]
        else:
            pdu = [_data_in(expected, tag, stat_sn, cmd_sn, max_cmd_sn), data]
            queued_bytes += expected
        output += pdu if digests is None else digests.added_to(*pdu)
        stat_sn = (stat_sn + 1) % MODULUS
        position = following
    if output:
        incoming.position = position
        numbers.expected, numbers.maximum = cmd_sn, max_cmd_sn
        connection.queue_whole(output, queued_bytes - connection.queued_bytes, stat_sn)


def _room(session: Session, connection: Connection) -> tuple[int, int]:
    """Returns how much may come and go in one PDU beside the tasks that are under way."""
    room = session.parking.room_bytes
    return min(connection.most_in, room), min(connection.most_out, room)
