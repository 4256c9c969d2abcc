"""What the failure of a medium is called in sense data.

Only a block that cannot be read or written is a MEDIUM ERROR, since initiators answer that by remapping or rewriting
the block. A medium that has become shorter than the unit is none: no block went bad and rewriting mends nothing, so it
is an internal failure (HARDWARE ERROR) for an operator to look at. A medium that is gone leaves the unit not ready,
manual intervention required, which initiators do not retry.
"""

from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.status import (
    CheckCondition,
    InternalTargetFailure,
    ManualInterventionRequired,
    MediumReadFailed,
    MediumWriteFailed,
    SpaceExhausted,
    WriteProtected,
)


def condition(error: MediumError, block_length_bytes: int) -> CheckCondition:
    """Returns the condition that a failed operation ends its command with.

    block_length_bytes   turns the place of the failure into an LBA
    Source: SBC3r36 4.18.1, 4.7.3.6
    """
    lba = None if error.offset_bytes is None else error.offset_bytes // block_length_bytes
    match error.fault:
        case Fault.NO_SPACE:
            return SpaceExhausted()
        case Fault.READ_FAILED:
            return MediumReadFailed(lba)
        case Fault.WRITE_FAILED:
            return MediumWriteFailed(lba)
        case Fault.READ_ONLY:
            return WriteProtected()
        case Fault.TRUNCATED:
            return InternalTargetFailure()
        case Fault.GONE:
            return ManualInterventionRequired()
