"""What a rule does to a PDU, to its connection, or to a command."""

from enum import Enum
from typing import NamedTuple

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.scsi.status import Sense, Status

FOR_GOOD = float("inf")


class Drop(NamedTuple):
    """The PDU is not sent, or is treated as if it had not come."""


class Duplicate(NamedTuple):
    """The PDU is sent, or comes, twice."""


class Delay(NamedTuple):
    """A command begins so much later, and others pass it; any other PDU waits, and all behind it.

    seconds   more than 0
    """

    seconds: float


class Reorder(NamedTuple):
    """The PDU goes behind some that follow it on its connection, in its direction; what follows may be too few.

    passing   how many, from 1
    """

    passing: int


class Stall(NamedTuple):
    """Nothing is read from the connection, or nothing is sent on it, from this PDU on.

    seconds   for so long, or FOR_GOOD
    """

    seconds: float = FOR_GOOD


class Hang(NamedTuple):
    """The command is taken, and neither begun nor answered."""


class Cut(NamedTuple):
    """The connection is closed instead."""


class Part(Enum):
    """What of a PDU can be corrupted."""

    HEADER_DIGEST = "header-digest"
    DATA_DIGEST = "data-digest"
    DATA = "data"


class Corrupt(NamedTuple):
    """A digest is wrong, or is found to be wrong, or a byte of the data is; the digest of wrong data is right.

    offset   of the byte; data that is shorter is left alone
    """

    part: Part
    offset: int = 0


class Change(NamedTuple):
    """A field of the header is another number.

    by       what is added to it, modulo what it can hold; None when `to` is what it becomes
    to       likewise
    """

    field: str
    by: int | None
    to: int | None


class Answer(NamedTuple):
    """The command is not performed; it ends with this status.

    sense    of CHECK CONDITION
    """

    status: Status
    sense: Sense | None = None


class Attention(NamedTuple):
    """A unit attention is established for the initiator at the unit, which this command meets if it can.

    code    ASC << 8 | ASCQ
    """

    code: int


class Refuse(NamedTuple):
    """The login ends with this status."""

    status: LoginStatus


Action = Drop | Duplicate | Delay | Reorder | Stall | Hang | Cut | Corrupt | Change | Answer | Attention | Refuse
