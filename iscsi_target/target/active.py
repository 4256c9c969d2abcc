"""A normal session together with the names of its ends, the units it is attached to and the tasks it has there."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.express import Answer
from iscsi_target.iscsi.login import Negotiated
from iscsi_target.iscsi.session import Session
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.lun import unpack_lun
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.profiles import Choices
from iscsi_target.scsi.state.task import Task
from iscsi_target.scsi.unit.lane import Lane
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.actions import SessionSummary
from iscsi_target.target.nodes import TargetNode


class Seat(NamedTuple):
    """The place of a nexus at one unit, and the short way for its commands there."""

    unit: LogicalUnit
    lane: Lane


Waiting = dict[Connection, Callable[[], None]]  # who waits for something -> what is to be done then


class ActiveSession:
    """One nexus at work.

    attached      the units that commands can reach, by name
    luns          the LUNs that lead to a unit, ascending
    answers       the lanes of seats, by the LUN field of commands
    leaving       units that were taken away and whose last operations of this nexus are not back yet
    tasks         initiator task tag -> the task and the unit it is on
    aborting      tags of tasks that the initiator's own functions are ending
    failed        tags of tasks that are being aborted to end with an iSCSI condition
    ending        True from when the session began to end
    afterwards    the connections that wait for the end
    retiring      connections that are being closed while the session goes on -> who waits for that
    """

    def __init__(self, session: Session, nexus: Nexus, node: TargetNode) -> None:
        self.session = session
        self.nexus = nexus
        self.node = node
        self.attached: dict[str, LogicalUnit] = {}
        self.luns: tuple[int, ...] = ()
        self.answers: dict[bytes, Answer] = {}
        self._seats: dict[bytes, Seat] = {}  # by the LUN field of commands, each of the forms that a LUN has
        self.leaving: dict[LogicalUnit, None] = {}
        self.tasks: dict[int, tuple[Task, LogicalUnit]] = {}
        self.aborting: set[int] = set()
        self.failed: set[int] = set()
        self.ending = False
        self.afterwards: Waiting = {}
        self.retiring: dict[Connection, Waiting] = {}

    @property
    def staying(self) -> list[Connection]:
        """The connections that are not being closed; there are some as long as the session does not end."""
        return [each for each in self.session.connections.values() if each not in self.retiring and not each.closing]

    def of_cid(self, cid: int) -> Connection | None:
        """Returns the connection that has a CID, even if it is gone but for the last operation of its tasks."""
        retiring = (each for each in self.retiring if each.cid == cid)
        return self.session.connections.get(cid) or next(retiring, None)

    @property
    def choices(self) -> Choices:
        """How the initiator is treated where initiators disagree."""
        return self.node.chosen.of(self.nexus.initiator_port.name)

    def seat(self, field: bytes) -> Seat | None:
        """Returns the place of the nexus at the unit that the LUN field of a command means, or None.

        field   8 bytes
        """
        return self._seats.get(field) or self._find(field)

    def unit(self, field: bytes) -> LogicalUnit | None:
        """Returns the unit that the LUN field of a command means, or None.

        field   8 bytes
        """
        seat = self.seat(field)
        return None if seat is None else seat.unit

    def _find(self, field: bytes) -> Seat | None:
        lun = unpack_lun(field)
        unit = None if lun is None else self.attached.get(self.node.luns.get(lun, ""))
        if unit is None:
            return None
        seat = self._seats[field] = Seat(unit, unit.lane(self.nexus))
        self.answers[field] = seat.lane.answer
        return seat

    def _attached_others(self) -> None:
        self.luns = tuple(lun for lun in sorted(self.node.luns) if self.node.luns[lun] in self.attached)
        self._seats.clear()
        self.answers.clear()

    def attach(self, units: Mapping[str, LogicalUnit]) -> None:
        """Makes the nexus known to those units of the node that do not know it yet."""
        for name in self.node.luns.values():
            if name in units and name not in self.attached and units[name] not in self.leaving:
                self.attached[name] = units[name]
                units[name].attach(self.nexus, self.choices)
        self._attached_others()

    def detach(self) -> None:
        """Takes leave of all units; the tasks are over."""
        for unit in self.attached.values():
            unit.detach(self.nexus)
        self.attached.clear()
        self._attached_others()

    def remap(self, node: TargetNode, units: Mapping[str, LogicalUnit]) -> list[LogicalUnit]:
        """Takes over other LUNs and returns the units to take leave of, which are in `leaving` now.

        Units that stay learn that the LUNs changed. One that comes back before it has left is attached afterwards.

        Source: SPC4r37 6.33
        """
        before = {lun: self.attached.get(name) for lun, name in self.node.luns.items()}
        kept = {name: unit for name, unit in self.attached.items() if units.get(name) is unit}
        kept = {name: unit for name, unit in kept.items() if name in node.luns.values()}
        leaving = [unit for name, unit in self.attached.items() if name not in kept]
        self.node = node
        for unit in kept.values():
            unit.nexuses.standing(self.nexus).choices = self.choices
        self.attached = dict(kept)
        self.leaving |= dict.fromkeys(leaving)
        self.attach(units)
        if before != {lun: self.attached.get(name) for lun, name in node.luns.items()}:
            for unit in kept.values():
                unit.nexuses.establish_for(self.nexus, AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)
        return leaving

    def summary(self) -> SessionSummary:
        """Returns the session as an operator sees it."""
        return summarise(self.session, self.node.name, self.nexus.target_port.portal_group_tag)


def summarise(session: Session, target: str, portal_group_tag: int) -> SessionSummary:
    """Returns any session as an operator sees it; target is empty for a discovery session."""
    return SessionSummary(
        initiator=session.negotiated.initiator_name,
        isid=session.negotiated.isid.hex(),
        target=target,
        portal_group_tag=portal_group_tag,
        tsih=session.tsih,
        connections=tuple(connection.number for connection in session.connections.values()),
        open_tasks=session.open_tasks,
    )


def check_room(session: Session) -> None:
    """Raises LoginRefused when a session has as many connections as were negotiated.

    Source: RFC7143 11.13.5, 13.2
    """
    most = session.parameters.max_connections
    if session.lost is not None:
        most += 1  # of which one may be gone although nobody has noticed, RFC7143 6.3.4
    if len(session.connections) >= most:
        raise LoginStatus.TOO_MANY_CONNECTIONS.refusal(f"MaxConnections={most} was negotiated")


def continued(negotiated: Negotiated, before: Session) -> Negotiated:
    """Returns what holds on a reinstated connection: the session's keys as they were, the connection's as they are.

    Source: RFC7143 6.3.4, 13
    """
    return negotiated._replace(parameters=before.parameters.with_connection(negotiated.parameters))
