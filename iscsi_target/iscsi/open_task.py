"""One SCSI command as the session sees it between the command PDU and its response: tags, expectations, transfer.

Here a response becomes PDUs: Data-In with the status in the last one where the standard lets it be there, or a SCSI
Response.
"""

from dataclasses import dataclass
from typing import NamedTuple

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.keys import Parameters
from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from iscsi_target.iscsi.transfer import Buffer, DataOutTransfer, residual, split
from iscsi_target.wire.layout import U16, Layout

STATUS_GOOD = 0


class SenseLength(Layout):
    """What stands before sense data in a SCSI Response.

    Source: RFC7143 11.4.7
    """

    sense_length: U16 = 0


class Response(NamedTuple):
    """What a command came to.

    status     SCSI status
    sense      sense data, or empty
    data_in    all the data that the command returns; cut here to what the initiator expects
    wanted     bytes of Data-Out that the command asks for
    about      what is to be known of it where it goes out, or None; it is not looked at here
    """

    status: int
    sense: bytes = b""
    data_in: Buffer = b""
    wanted: int = 0
    about: object = None


@dataclass(slots=True, eq=False)
class OpenTask:
    """A command whose response has not gone out.

    connection        its allegiance
    header            the command PDU
    expected_read     bytes of Data-In that the initiator has room for
    expected_write    bytes of Data-Out that it has
    transfer          collects the Data-Out
    immediate         immediate data that has not been taken
    collecting        True while Data-Out is wanted and not complete
    response          what waits for the initiator's last data
    """

    connection: Connection
    header: ScsiCommand
    expected_read: int
    expected_write: int
    transfer: DataOutTransfer
    immediate: Buffer
    collecting: bool = False
    response: Response | None = None

    def take_immediate(self) -> Buffer:
        """Returns the immediate data, which is valid while the command PDU is being handled, and forgets it."""
        immediate, self.immediate = self.immediate, b""
        return immediate

    def send(self, response: Response, parameters: Parameters) -> None:
        """Queues the PDUs of the response.

        Source: RFC7143 11.4, 11.7
        """
        data = response.data_in if self.header.read else b""
        if len(data) > self.expected_read:
            # A view of a part would keep all of a large read until an initiator that asked for little of it has it.
            data = bytes(data[: self.expected_read])
        collapsed = bool(data) and response.status == STATUS_GOOD and not self.header.write
        data_sn = self._send_data(data, response, parameters, collapsed=collapsed)
        if collapsed:
            return
        overflow, underflow, count = self._residual(response)
        both = self.header.read and self.header.write
        back = residual(self.expected_read, len(response.data_in))
        sense = b""
        if response.sense:
            sense = SenseLength(sense_length=len(response.sense)).pack() + response.sense
        self.connection.send(
            ScsiResponse(
                initiator_task_tag=self.header.initiator_task_tag,
                status=response.status,
                overflow=overflow,
                underflow=underflow,
                residual_count=count,
                bidirectional_read_overflow=both and back.overflow,
                bidirectional_read_underflow=both and back.underflow,
                bidirectional_read_residual_count=back.residual_count if both else 0,
                exp_data_sn=data_sn,
            ),
            sense,
            about=response.about,
        )

    def _send_data(self, data: Buffer, response: Response, parameters: Parameters, *, collapsed: bool) -> int:
        """Queues the Data-In PDUs and returns the next DataSN; the last one carries the status when collapsed.

        R2Ts of a bidirectional command are numbered together with its Data-In PDUs.

        Source: RFC7143 4.2.2.4, 11.8.1
        """
        data_sn = self.transfer.r2ts
        if not data:
            return data_sn
        overflow, underflow, count = self._residual(response)
        tag = self.header.initiator_task_tag
        for offset, part, final in split(data, parameters.max_burst_length, parameters.initiator_max_recv):
            last = collapsed and offset + len(part) == len(data)
            stat_sn, exp_cmd_sn, max_cmd_sn = self.connection.stamp(status=last)
            header = DataIn(
                final=final,
                status_present=last,
                overflow=last and overflow,
                underflow=last and underflow,
                data_segment_length=len(part),
                initiator_task_tag=tag,
                stat_sn=stat_sn,
                exp_cmd_sn=exp_cmd_sn,
                max_cmd_sn=max_cmd_sn,
                data_sn=data_sn,
                buffer_offset=offset,
                residual_count=count if last else 0,
            )
            self.connection.queue(header.pack(), part)
            data_sn += 1
        return data_sn

    def _residual(self, response: Response) -> tuple[bool, bool, int]:
        """Returns overflow, underflow and count in the direction that the command PDU's flags name.

        A command with neither flag is compared with what it would have returned.
        """
        if self.header.write:
            return residual(self.expected_write, response.wanted)
        return residual(self.expected_read, len(response.data_in) or response.wanted)
