"""What a rule is: the PDUs that it is about, conditions that all must hold, when it fires, and what it does then."""

from fnmatch import fnmatchcase
from typing import NamedTuple

from iscsi_target.faults.actions import Action, Corrupt, Part
from iscsi_target.faults.kinds import Kind
from iscsi_target.scsi.commands import command_lookup
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.status import StatusError
from iscsi_target.wire.layout import Layout, LayoutError

UNLIMITED = 1 << 63  # more often than anything happens
_MASK = (1 << 64) - 1


class Subject(NamedTuple):
    """A PDU as rules see it.

    header          its basic header segment
    initiator       the initiator's name, in lower case; empty before it has said it
    target          likewise; empty in a discovery session, too
    portal_group    tag of the portal group that the connection came to
    cid             of the connection; None until it is logged in
    lun             of the PDU or of the command that it belongs to; None when there is none
    cdb             of the command that it belongs to; empty when it belongs to none
    data_bytes      how long its data segment is
    header_digest, data_digest   whether the connection uses them
    """

    header: Layout
    initiator: str = ""
    target: str = ""
    portal_group: int = 0
    cid: int | None = None
    lun: int | None = None
    cdb: bytes = b""
    data_bytes: int = 0
    header_digest: bool = False
    data_digest: bool = False

    @property
    def command(self) -> Command | None:
        """The row of the command table that the PDU belongs to, or None."""
        try:
            return command_lookup.find(self.cdb) if self.cdb else None
        except StatusError:
            return None


class Span(NamedTuple):
    """Numbers from the first to the last, both included."""

    first: int
    last: int

    def holds(self, number: int | None) -> bool:
        """Returns True for one of them."""
        return number is not None and self.first <= number <= self.last


class InitiatorIs(NamedTuple):
    """The initiator's name fits a pattern, in which * stands for anything and ? for one character."""

    pattern: str

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return bool(subject.initiator) and fnmatchcase(subject.initiator, self.pattern)


class TargetIs(NamedTuple):
    """The target's name fits a pattern, likewise."""

    pattern: str

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return bool(subject.target) and fnmatchcase(subject.target, self.pattern)


class PortalGroupIs(NamedTuple):
    """The connection came to a portal of such a portal group."""

    span: Span

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return self.span.holds(subject.portal_group)


class CidIs(NamedTuple):
    """The connection has such a CID in its session."""

    span: Span

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return self.span.holds(subject.cid)


class LunIs(NamedTuple):
    """The PDU, or the command that it belongs to, names such a LUN."""

    span: Span

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return self.span.holds(subject.lun)


class CommandIs(NamedTuple):
    """The PDU belongs to such a command.

    service_action   None for any
    """

    operation_code: int
    service_action: int | None = None

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        if not subject.cdb.startswith(bytes([self.operation_code])):
            return False
        row = subject.command
        return self.service_action is None or (row is not None and row.service_action == self.service_action)


class CdbFieldIs(NamedTuple):
    """A field of the command's CDB is such a number; a CDB without the field never is."""

    field: str
    span: Span

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        row = subject.command
        if row is None or self.field not in row.layout.fields:
            return False
        try:
            return self.span.holds(getattr(row.layout.unpack(subject.cdb), self.field))
        except LayoutError:  # the CDB of a variable-length command may be shorter than its layout
            return False


class HeaderFieldIs(NamedTuple):
    """A field of the PDU's header is such a number."""

    field: str
    span: Span

    def holds(self, subject: Subject) -> bool:
        """Returns True when the condition holds."""
        return self.field in subject.header.fields and self.span.holds(getattr(subject.header, self.field))


Condition = InitiatorIs | TargetIs | PortalGroupIs | CidIs | LunIs | CommandIs | CdbFieldIs | HeaderFieldIs


class Schedule(NamedTuple):
    """Which of the PDUs that a rule is about it fires for.

    nth           the first of them, counted from 1
    every         and of those that follow, each so many
    times         but no more than so many in all
    probability   and of all these only some
    seed          which of them
    """

    nth: int = 1
    every: int = 1
    times: int = UNLIMITED
    probability: float = 1.0
    seed: int = 0

    def is_due(self, matched: int, fired: int) -> bool:
        """Says whether a rule fires.

        matched   how many PDUs it was about, this one included
        fired     how often it has fired before
        """
        if fired >= self.times or matched < self.nth or (matched - self.nth) % self.every:
            return False
        return self.probability >= 1 or _scatter(self.seed, matched) < self.probability * (1 << 64)


def _scatter(seed: int, number: int) -> int:
    """Returns 64 bits that look random and are always the same for the same arguments: splitmix64."""
    mixed = (seed + number * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return mixed ^ mixed >> 31


class Rule(NamedTuple):
    """One rule.

    text    as it was written
    """

    text: str
    kind: Kind
    conditions: tuple[Condition, ...]
    schedule: Schedule
    action: Action

    def concerns(self, subject: Subject) -> bool:
        """Returns True for a PDU that the rule is about, whether or not it fires."""
        if type(subject.header) not in self.kind.layouts or not _can_suffer(self.action, subject):
            return False
        return all(condition.holds(subject) for condition in self.conditions)


def _can_suffer(action: Action, subject: Subject) -> bool:
    """Returns False for a PDU that has not got what an action would corrupt."""
    match action:
        case Corrupt(Part.HEADER_DIGEST):
            return subject.header_digest
        case Corrupt(Part.DATA_DIGEST):
            return subject.data_digest and subject.data_bytes > 0
        case Corrupt(Part.DATA, offset):
            return subject.data_bytes > offset
    return True
