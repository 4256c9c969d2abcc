"""The unit attention conditions that one nexus has not been told of yet, as a value.

Which commands report a condition, and which clear it in silence, is the logical unit's business.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.status import Status

CODE_BITS = 16  # of a condition; above them is its INFORMATION, when it has some
MAX_PENDING = 20  # more than there are codes in the table, so that only an odd caller can reach it


class AttentionCode(IntEnum):
    """The unit attention conditions: ADDITIONAL SENSE CODE << 8 | ADDITIONAL SENSE CODE QUALIFIER.

    Source: SAM5r21 5.14, 6.2, SPC4r37 5.13, SBC3r36 4.9
    """

    MEDIUM_MAY_HAVE_CHANGED = 0x2800
    POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED = 0x2900
    POWER_ON_OCCURRED = 0x2901
    SCSI_BUS_RESET_OCCURRED = 0x2902
    BUS_DEVICE_RESET_FUNCTION_OCCURRED = 0x2903
    I_T_NEXUS_LOSS_OCCURRED = 0x2907
    MODE_PARAMETERS_CHANGED = 0x2A01
    LOG_PARAMETERS_CHANGED = 0x2A02
    RESERVATIONS_PREEMPTED = 0x2A03
    RESERVATIONS_RELEASED = 0x2A04
    REGISTRATIONS_PREEMPTED = 0x2A05
    ASYMMETRIC_ACCESS_STATE_CHANGED = 0x2A06
    CAPACITY_DATA_HAS_CHANGED = 0x2A09
    TIMESTAMP_CHANGED = 0x2A10
    PREVIOUS_BUSY_STATUS = 0x2C07
    PREVIOUS_TASK_SET_FULL_STATUS = 0x2C08
    PREVIOUS_RESERVATION_CONFLICT_STATUS = 0x2C09
    COMMANDS_CLEARED_BY_ANOTHER_INITIATOR = 0x2F00
    THIN_PROVISIONING_SOFT_THRESHOLD_REACHED = 0x3807
    INQUIRY_DATA_HAS_CHANGED = 0x3F03
    DEVICE_IDENTIFIER_CHANGED = 0x3F05
    REPORTED_LUNS_DATA_HAS_CHANGED = 0x3F0E
    SOME_COMMANDS_CLEARED_BY_ISCSI_PROTOCOL_EVENT = 0x477F
    OPERATOR_MEDIUM_REMOVAL_REQUEST = 0x5A01


# What a nexus is told of a command that was not even begun, when UA_INTLCK_CTRL wants it. Source: SPC4r37 7.5.8
PREVIOUS_STATUS: Mapping[Status, AttentionCode] = {
    Status.BUSY: AttentionCode.PREVIOUS_BUSY_STATUS,
    Status.TASK_SET_FULL: AttentionCode.PREVIOUS_TASK_SET_FULL_STATUS,
    Status.RESERVATION_CONFLICT: AttentionCode.PREVIOUS_RESERVATION_CONFLICT_STATUS,
}

# Highest first; a code that is not here has the lowest precedence, 0, which it shares with all others.
_PRECEDENCE: dict[int, int] = {
    AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED: 4,
    AttentionCode.POWER_ON_OCCURRED: 4,
    AttentionCode.SCSI_BUS_RESET_OCCURRED: 3,
    AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED: 2,
    AttentionCode.I_T_NEXUS_LOSS_OCCURRED: 1,
}


def with_information(code: int, information: int) -> int:
    """Returns a condition that has something to say in INFORMATION: it stands above the 16 bits of the code.

    Source: SPC4r37 4.5.3
    """
    return information << CODE_BITS | code


def precedes_reservation_conflict(code: int) -> bool:
    """Returns True for a condition that is reported although a reservation excludes the command; others wait.

    code   ASC << 8 | ASCQ
    Source: SAM5r21 5.3.3
    """
    return code in _PRECEDENCE


class Attentions(NamedTuple):
    """The pending conditions of one nexus, oldest first, none twice.

    Source: SAM5r21 5.14
    """

    pending: tuple[int, ...] = ()

    @property
    def first(self) -> int | None:
        """The condition that is reported next, or None."""
        return self.pending[0] if self.pending else None

    def establish(self, code: int) -> "Attentions":
        """Returns the conditions after one more event.

        A condition that is pending already stays where it is. A reset or the loss of the nexus takes the place of
        everything of lower precedence, since the initiator has to look at everything anew, and adds nothing to one of
        its own precedence or higher. When MAX_PENDING are there, one more turns all into the one that stands for any.

        code   ASC << 8 | ASCQ, or with INFORMATION
        Source: SAM5r21 5.14
        """
        if code in self.pending:
            return self
        precedence = _PRECEDENCE.get(code, 0)
        if precedence > 0:
            covered = any(_PRECEDENCE.get(other, 0) >= precedence for other in self.pending)
            return self if covered else Attentions((code,))
        if len(self.pending) >= MAX_PENDING:
            return Attentions((AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED,))
        return Attentions((*self.pending, code))

    def without(self, code: int | None) -> "Attentions":
        """Returns the conditions after one was reported or became void; one that is not pending is no error."""
        return Attentions(tuple(other for other in self.pending if other != code))
