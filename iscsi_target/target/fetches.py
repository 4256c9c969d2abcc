"""Brings what tokens represent from the units that made them to those that are sent the tokens.

A copy manager asks another one as an initiator would, with a command, which that unit orders, serialises and checks as
any other. Units ask one after the other, so that a copy of many small pieces that are there at once does not nest.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from iscsi_target.scsi.commands.copy_rows import ASKED
from iscsi_target.scsi.nexus import OPERATOR
from iscsi_target.scsi.operations import Fault, MediumError, Outcome
from iscsi_target.scsi.state.task import Aborted, Bring, Completed, Task, TaskAttribute, Ticket, UnitAction
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit


class Fetches:
    """What is on its way from one unit to another.

    execute    does what a unit wants done
    finished   takes in what came of a ticket
    units      by their names; whoever owns this changes it
    """

    def __init__(
        self,
        execute: Callable[[LogicalUnit, Iterable[UnitAction]], None],
        finished: Callable[[Ticket, Outcome | MediumError], None],
    ) -> None:
        self.units: Mapping[str, LogicalUnit] = {}
        self._execute = execute
        self._finished = finished
        self._numbers = count(-1, -1)  # never those of the commands of a nexus
        self._asked: dict[Task, Ticket] = {}
        self._waiting: deque[tuple[LogicalUnit, Bring, float]] = deque()
        self._at_work = False

    def __contains__(self, task: object) -> bool:
        return task in self._asked

    def __bool__(self) -> bool:
        return bool(self._asked)

    def ask(self, unit: LogicalUnit, bring: Bring, now_s: float) -> None:
        """Asks a unit for another one.

        now_s   seconds since the epoch
        """
        self._waiting.append((unit, bring, now_s))
        if self._at_work:
            return
        self._at_work = True
        try:
            while self._waiting:
                self._bring(*self._waiting.popleft())
        finally:
            self._at_work = False

    def _bring(self, unit: LogicalUnit, bring: Bring, now_s: float) -> None:
        asked, visit = unit if bring.unit is None else self.units.get(bring.unit), bring.visit
        if asked is None or (visit is not None and not visit.holds(asked.device)):
            self._finished(bring.ticket, MediumError(Fault.GONE))
            return
        nexus, give = (OPERATOR, asked.operate) if visit is None else (visit.nexus, asked.serve)
        cdb = bring.cdb.pack()
        task = Task(nexus, next(self._numbers), cdb, TaskAttribute.HEAD_OF_QUEUE, received_s=now_s)
        self._asked[task] = bring.ticket
        self._execute(asked, give(task, ASKED[type(bring.cdb)], bring.data_out))

    def ended(self, end: Completed | Aborted) -> None:
        """Takes in how a task of ours has ended at a unit."""
        ticket = self._asked.pop(end.task)
        if isinstance(end, Completed) and end.status is Status.GOOD:
            self._finished(ticket, bytes(end.data_in))
        else:
            self._finished(ticket, MediumError(Fault.READ_FAILED))
