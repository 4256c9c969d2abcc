"""Status codes, sense data, and one named exception for every condition that a command can end in.

A handler raises; the logical unit catches, once, and makes a status of it. Nothing here decides when a condition holds
or which format of sense data a nexus wants.
"""

from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.sense_data import (
    CommandSpecificDescriptor,
    DescriptorSense,
    FixedSense,
    InformationDescriptor,
    SenseKeySpecificDescriptor,
)
from iscsi_target.wire.layout import FieldPointer, Layout


class Status(IntEnum):
    """The status of a completed command.

    Source: SAM5r21 5.3.1
    """

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """The class of a condition.

    Source: SPC4r37 4.5.6
    """

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


class Sense(NamedTuple):
    """What a device server has to say about a condition, independent of the format it is sent in.

    code               ADDITIONAL SENSE CODE << 8 | ADDITIONAL SENSE CODE QUALIFIER
    information        0..2**64-1, or None; the fixed format drops what needs more than 32 bits, as the standard demands
    command_specific   0..2**64-1, or None; likewise
    field              the byte and bit in error; whole_byte says that the bit means nothing
    in_cdb             True when field counts in the CDB, False when in the parameter list
    progress           0..65535 parts of 65536, or None; never together with field
    Source: SPC4r37 4.5
    """

    key: SenseKey
    code: int
    information: int | None = None
    command_specific: int | None = None
    field: FieldPointer | None = None
    in_cdb: bool = True
    progress: int | None = None
    whole_byte: bool = False

    def __str__(self) -> str:
        return f"{self.key.name} {self.code >> 8:02X}/{self.code & 0xFF:02X}"

    def fixed(self) -> bytes:
        """Returns 18 bytes of fixed format sense data.

        Source: SPC4r37 4.5.3
        """
        information = self.information if _fits_32_bits(self.information) else None
        command_specific = self.command_specific if _fits_32_bits(self.command_specific) else None
        command_data, bpv, bit_pointer, field_pointer = self._sense_key_specific()
        return FixedSense(
            valid=information is not None,
            sense_key=self.key,
            information=information or 0,
            command_specific_information=command_specific or 0,
            additional_sense_code=self.code,
            sksv=self._has_sense_key_specific(),
            command_data=command_data,
            bpv=bpv,
            bit_pointer=bit_pointer,
            field_pointer=field_pointer,
        ).pack()

    def descriptor(self) -> bytes:
        """Returns descriptor format sense data with the descriptors that have something to say.

        Source: SPC4r37 4.5.2
        """
        descriptors = b"".join(self._descriptors())
        header = DescriptorSense(
            sense_key=self.key, additional_sense_code=self.code, additional_sense_length=len(descriptors)
        )
        return header.pack() + descriptors

    def _descriptors(self) -> list[bytes]:
        descriptors = []
        if self.information is not None:
            descriptors.append(InformationDescriptor(information=self.information).pack())
        if self.command_specific is not None:
            descriptors.append(CommandSpecificDescriptor(command_specific_information=self.command_specific).pack())
        if self._has_sense_key_specific():
            command_data, bpv, bit_pointer, field_pointer = self._sense_key_specific()
            descriptors.append(
                SenseKeySpecificDescriptor(
                    command_data=command_data, bpv=bpv, bit_pointer=bit_pointer, field_pointer=field_pointer
                ).pack()
            )
        return descriptors

    def _has_sense_key_specific(self) -> bool:
        return self.field is not None or self.progress is not None

    def _sense_key_specific(self) -> tuple[bool, bool, int, int]:
        if self.field is None:
            return False, False, 0, self.progress or 0
        byte, bit = self.field
        if self.whole_byte:
            return self.in_cdb, False, 0, byte
        return self.in_cdb, True, bit, byte


def _fits_32_bits(value: int | None) -> bool:
    return value is not None and value < 1 << 32


class StatusError(Exception):
    """Ends a command with a status other than GOOD.

    status   what goes to the initiator
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class ReservationConflict(StatusError):
    """A reservation of another nexus excludes the command.

    Source: SAM5r21 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Status.RESERVATION_CONFLICT)


class Busy(StatusError):
    """The logical unit cannot take the command now.

    Source: SAM5r21 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Status.BUSY)


class TaskSetFull(StatusError):
    """The task set has no room for the command.

    Source: SAM5r21 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Status.TASK_SET_FULL)


class AcaActive(StatusError):
    """An auto contingent allegiance keeps the command out.

    Source: SAM5r21 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Status.ACA_ACTIVE)


class CheckCondition(StatusError):
    """Ends a command with CHECK CONDITION and sense data.

    Source: SAM5r21 5.3.1, SPC4r37 4.5
    """

    def __init__(self, sense: Sense) -> None:
        super().__init__(Status.CHECK_CONDITION)
        self.sense = sense

    def __str__(self) -> str:
        return str(self.sense)


class InvalidOperationCode(CheckCondition):
    """The operation code is not one of ours: 5/20/00.

    Source: SPC4r37 4.5.6
    """

    def __init__(self) -> None:
        field = FieldPointer(0, 0)
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2000, field=field, whole_byte=True))


class InvalidFieldInCdb(CheckCondition):
    """A field of the CDB has a value that is not allowed: 5/24/00 with a field pointer.

    layout   the CDB's layout
    field    the name of the field in it
    Source: SPC4r37 4.5.2.4.2
    """

    def __init__(self, layout: type[Layout], field: str) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, field=layout.location(field)))


class ReservedBitInCdb(CheckCondition):
    """A reserved bit of the CDB is set: 5/24/00 with a field pointer.

    Source: SPC4r37 4.5.2.4.2
    """

    def __init__(self, field: FieldPointer) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, field=field))


class InvalidFieldInParameterList(CheckCondition):
    """A field of the parameter list has a value that is not allowed: 5/26/00 with a field pointer.

    byte   from the start of the parameter list
    bit    the most significant bit of the field, or None when the whole byte is meant
    Source: SPC4r37 4.5.2.4.2
    """

    def __init__(self, byte: int, bit: int | None = None) -> None:
        field = FieldPointer(min(byte, 0xFFFF), 0 if bit is None else bit)
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, field=field, in_cdb=False, whole_byte=bit is None))


class ParameterListLengthError(CheckCondition):
    """The parameter list ends within a header, page or descriptor: 5/1A/00.

    Source: SPC4r37 6.11, SBC3r36 5.28
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x1A00))


class LbaOutOfRange(CheckCondition):
    """The command reaches beyond the last logical block: 5/21/00 with the LBA as INFORMATION.

    Source: SBC3r36 4.18.1
    """

    def __init__(self, lba: int) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2100, information=lba))


class LogicalUnitNotSupported(CheckCondition):
    """The LUN has no logical unit: 5/25/00.

    Source: SAM5r21 5.11
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2500))


class InvalidTaskAttribute(CheckCondition):
    """The command came with the ACA attribute and there is no ACA condition: 5/49/00.

    Source: SAM5r21 8.6.5
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x4900))


class CommandSequenceError(CheckCondition):
    """The command needs another one before it: 5/2C/00.

    Source: SPC4r37 6.18.8
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x2C00))


class MediumRemovalPrevented(CheckCondition):
    """A nexus prevents the removal of the medium: 5/53/02.

    Source: SBC3r36 4.9
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, 0x5302))


class MediumNotPresent(CheckCondition):
    """The medium is ejected: 2/3A/00.

    Source: SBC3r36 4.9
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x3A00))


class NotReadyInitialisingRequired(CheckCondition):
    """The unit is stopped and wants START STOP UNIT: 2/04/02.

    Source: SBC3r36 5.25
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x0402))


class SanitizeInProgress(CheckCondition):
    """The medium is being sanitized: 2/04/1B.

    progress   0..65535 parts of 65536
    Source: SBC3r36 4.11.2
    """

    def __init__(self, progress: int) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x041B, progress=progress))


class FormatInProgress(CheckCondition):
    """The medium is being formatted: 2/04/04 with the progress.

    progress   0..65535
    Source: SBC3r36 5.3.1
    """

    def __init__(self, progress: int) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x0404, progress=progress))


class FormatCommandFailed(CheckCondition):
    """The command could not format the medium: 3/31/01.

    Source: SBC3r36 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.MEDIUM_ERROR, 0x3101))


class MediumFormatCorrupted(CheckCondition):
    """A format before could not be carried out: 3/31/00.

    Source: SBC3r36 5.3.1
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.MEDIUM_ERROR, 0x3100))


class SanitizeCommandFailed(CheckCondition):
    """The medium could not be sanitized: 3/31/03.

    Source: SBC3r36 4.11.3
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.MEDIUM_ERROR, 0x3103))


class LogicalUnitNotAccessible(CheckCondition):
    """The asymmetric access state of the path keeps the command out: 2/04/xx.

    qualifier   0Ah in a transition, 0Bh in standby, 0Ch when unavailable, 12h when offline
    Source: SPC4r37 5.15.2.4
    """

    def __init__(self, qualifier: int) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x0400 | qualifier))


class SetTargetPortGroupsFailed(CheckCondition):
    """The states that SET TARGET PORT GROUPS wanted are not reached: 4/67/0A.

    Source: SPC4r37 5.15.2.7
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.HARDWARE_ERROR, 0x670A))


class ManualInterventionRequired(CheckCondition):
    """The medium is gone and only an operator can bring it back: 2/04/03.

    Source: SPC4r37 4.5.6
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.NOT_READY, 0x0403))


class WriteProtected(CheckCondition):
    """The unit cannot be written: 7/27/00.

    Source: SBC3r36 4.12
    """

    def __init__(self, code: int = 0x2700) -> None:
        super().__init__(Sense(SenseKey.DATA_PROTECT, code))


class SoftwareWriteProtected(WriteProtected):
    """The control mode page forbids writing: 7/27/02.

    Source: SBC3r36 4.12, SPC4r37 7.5.8
    """

    def __init__(self) -> None:
        super().__init__(0x2702)


class SpaceExhausted(WriteProtected):
    """The thin provisioned unit found no space for the write: 7/27/07.

    Source: SBC3r36 4.7.3.6
    """

    def __init__(self) -> None:
        super().__init__(0x2707)


class MediumReadFailed(CheckCondition):
    """The medium cannot be read: 3/11/00, with the LBA as INFORMATION when it is known.

    Source: SBC3r36 4.18.1
    """

    def __init__(self, lba: int | None = None) -> None:
        super().__init__(Sense(SenseKey.MEDIUM_ERROR, 0x1100, information=lba))


class MediumWriteFailed(CheckCondition):
    """The medium cannot be written: 3/0C/00, with the LBA as INFORMATION when it is known.

    Source: SBC3r36 4.18.1
    """

    def __init__(self, lba: int | None = None) -> None:
        super().__init__(Sense(SenseKey.MEDIUM_ERROR, 0x0C00, information=lba))


class InternalTargetFailure(CheckCondition):
    """Something behind the unit failed that no block is to blame for: 4/44/00.

    Source: SPC4r37 4.5.6
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.HARDWARE_ERROR, 0x4400))


class Miscompare(CheckCondition):
    """The medium differs from the Data-Out: E/1D/00 with the offset of the first difference as INFORMATION.

    offset_bytes   from the start of the compared data
    Source: SBC3r36 5.2, 5.29
    """

    def __init__(self, offset_bytes: int) -> None:
        super().__init__(Sense(SenseKey.MISCOMPARE, 0x1D00, information=offset_bytes))


class UnitAttention(CheckCondition):
    """A unit attention condition pre-empts the command: key 6, its code, and its INFORMATION if it has some.

    Source: SAM5r21 5.14
    """

    def __init__(self, condition: int) -> None:
        information, code = divmod(condition, 1 << 16)
        super().__init__(Sense(SenseKey.UNIT_ATTENTION, code, information=information or None))
