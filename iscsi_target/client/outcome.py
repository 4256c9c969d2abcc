"""What a SCSI command came to, as a program wants to look at it."""

from typing import Final, NamedTuple

from iscsi_target.initiator.events import CommandCompleted
from iscsi_target.iscsi.transfer import Residual
from iscsi_target.scsi.sense_data import DescriptorSense, FixedSense
from iscsi_target.scsi.status import SenseKey, Status

DESCRIPTOR_FORMAT: Final = (0x72, 0x73)  # SPC4r37 4.5.1


class Outcome(NamedTuple):
    """What a command came to.

    status      a `Status`; any number when the target answers with one that SAM does not have
    sense       sense data; empty when there is none
    data        what the command returned
    residual    by how much the transfer differed from what was expected: of Data-Out when there was some
    bidirectional_read_residual    of Data-In when there was Data-Out too
    response    0: completed at the target; 1: target failure, and nothing else means anything
    Source: RFC7143 11.4
    """

    status: int
    sense: bytes
    data: bytes
    residual: Residual
    bidirectional_read_residual: Residual
    response: int

    @property
    def good(self) -> bool:
        """Says whether the command did what it was to do."""
        return self.response == 0 and self.status == Status.GOOD

    @property
    def sense_key(self) -> int:
        """Returns a `SenseKey`, or any other number that the target sends; NO_SENSE without sense data."""
        key = self._header.sense_key
        return SenseKey(key) if key in set(SenseKey) else key

    @property
    def additional_sense_code(self) -> int:
        """Returns the additional sense code and, in the low byte, its qualifier; 0 without sense data."""
        return self._header.additional_sense_code

    @property
    def _header(self) -> FixedSense | DescriptorSense:
        if len(self.sense) < DescriptorSense.size:
            return FixedSense()
        descriptor = DescriptorSense.unpack(self.sense)
        if descriptor.response_code in DESCRIPTOR_FORMAT:
            return descriptor
        return FixedSense.unpack(self.sense.ljust(FixedSense.size, b"\0"))


def outcome_of(completed: CommandCompleted) -> Outcome:
    """Returns the outcome that an event tells of."""
    status = Status(completed.status) if completed.status in set(Status) else completed.status
    return Outcome(
        status,
        completed.sense,
        completed.data,
        completed.residual,
        completed.bidirectional_read_residual,
        completed.response,
    )
