"""What happened to the reservations of one unit, and why: explanations as values, and a bounded timeline of them.

The timeline has the outcome of every PERSISTENT RESERVE OUT and every RESERVATION CONFLICT, numbered. Changes and
refusals are kept apart, so that a fenced node whose commands conflict again and again cannot push out what fenced it; a
refusal that repeats the one before takes its place and counts it.
"""

from collections import deque
from typing import NamedTuple

from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservation_record import Record, cause_record, nexus_record
from iscsi_target.scsi.reservations.reservation_request import Transition
from iscsi_target.scsi.reservations.reservations import Cause, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.status import CheckCondition, Sense, Status, StatusError

MAX_CHANGES = 1024  # outcomes of PERSISTENT RESERVE OUT that are kept
MAX_REFUSALS = 1024  # refused commands that are kept
MAX_REMOVALS = 8192  # nexuses whose removed registration is remembered, for the explanation of their conflicts


class Explanation(NamedTuple):
    """Why a command met a conflict, or what a PERSISTENT RESERVE OUT came to.

    rule             the rule that decided
    generation       PRGENERATION, after the command
    type, holder     of the reservation, after the command; no holder with the all registrants types, no type with an
                     SPC-2 reservation
    key              the holder's, zero where there is none
    made_by          the command that made the reservation, if there is one
    removed_by       the command that removed the registration of this nexus, if one did and it has none since
    """

    rule: Rule
    generation: int
    type: ReservationType | None = None
    holder: Nexus | None = None
    key: int = 0
    made_by: Cause | None = None
    removed_by: Cause | None = None

    def __str__(self) -> str:
        said = [f"{self.rule.text} ({self.rule.clause})"]
        if self.type is not None:
            held_by = f"{self.holder.initiator_port} with key {self.key:#x}" if self.holder else "all registrants"
            said.append(f"{self.type}, held by {held_by}")
        elif self.holder is not None:
            said.append(f"reserved by {self.holder.initiator_port}")
        if self.made_by is not None:
            said.append(f"made by {self.made_by}")
        if self.removed_by is not None:
            said.append(f"registration removed by {self.removed_by}")
        said.append(f"generation {self.generation}")
        return "; ".join(said)


class Answered(NamedTuple):
    """What an initiator was told.

    sense   only with CHECK CONDITION
    """

    status: Status
    sense: Sense | None = None

    def __str__(self) -> str:
        return self.status.name.replace("_", " ") if self.sense is None else str(self.sense)


GOOD = Answered(Status.GOOD)


class Entry(NamedTuple):
    """One line of the timeline.

    number         counts up from 1 as long as the unit is open
    time_s         when the command was received, in seconds since the epoch; of the last of `times`
    command        its name
    told           the status, and the sense data of CHECK CONDITION
    times          how many equal refusals one after the other the entry stands for
    """

    number: int
    time_s: float
    nexus: Nexus
    command: str
    told: Answered
    explanation: Explanation
    times: int = 1

    def __str__(self) -> str:
        whose = "the operator" if self.nexus == OPERATOR else str(self.nexus.initiator_port)
        return f"{self.command} from {whose}: {self.told}: {self.explanation}"


def entry_record(entry: Entry) -> Record:
    """Returns an entry as values that JSON knows."""
    why = entry.explanation
    return {
        "number": entry.number,
        "time": entry.time_s,
        "nexus": nexus_record(entry.nexus),
        "command": entry.command,
        "status": entry.told.status.name,
        "sense": None if entry.told.sense is None else str(entry.told.sense),
        "rule": why.rule.name,
        "clause": why.rule.clause,
        "generation": why.generation,
        "type": None if why.type is None else int(why.type),
        "holder": None if why.holder is None else nexus_record(why.holder),
        "key": f"{why.key:#x}",
        "made_by": None if why.made_by is None else cause_record(why.made_by),
        "removed_by": None if why.removed_by is None else cause_record(why.removed_by),
        "times": entry.times,
        "text": str(entry),
    }


class Timeline:
    """The changes and refusals of one unit, the last ones of each kind."""

    def __init__(self) -> None:
        self._changes: deque[Entry] = deque(maxlen=MAX_CHANGES)
        self._refusals: deque[Entry] = deque(maxlen=MAX_REFUSALS)
        self._removals: dict[Nexus, Cause] = {}
        self._next = 1

    def changed(self, cause: Cause, transition: Transition) -> Entry:
        """Adds a PERSISTENT RESERVE OUT that did what it was to do."""
        for nexus in transition.removed:
            self._removals.pop(nexus, None)
            self._removals[nexus] = cause
            if len(self._removals) > MAX_REMOVALS:
                del self._removals[next(iter(self._removals))]
        entry = self._entry(cause, GOOD, self._explain(transition.rule, transition.state, cause.nexus))
        self._changes.append(entry)
        return entry

    def refused(
        self, cause: Cause, rule: Rule, error: StatusError, state: Reservations, spc2: Spc2Reservation
    ) -> Entry:
        """Adds a command that a rule refused in a state, or counts it when it is the last one over again."""
        told = Answered(error.status, error.sense if isinstance(error, CheckCondition) else None)
        explanation = self._explain(rule, state, cause.nexus)
        if rule in (Rule.SPC2_RESERVED, Rule.SPC2_RESERVATION_PRESENT):
            explanation = explanation._replace(type=None, holder=spc2.holder, key=0, made_by=spc2.made_by)
        entry = self._entry(cause, told, explanation)
        last = self._refusals[-1] if self._refusals else None
        if last is not None and _equal(last, entry):
            self._refusals.pop()
            entry = entry._replace(times=last.times + 1)
        self._refusals.append(entry)
        return entry

    def _explain(self, rule: Rule, state: Reservations, nexus: Nexus) -> Explanation:
        reservation = state.reservation
        removed_by = None if nexus in state.registrations else self._removals.get(nexus)
        if reservation is None:
            return Explanation(rule, state.generation, removed_by=removed_by)
        return Explanation(
            rule=rule,
            generation=state.generation,
            type=reservation.type,
            holder=reservation.holder,
            key=state.reservation_key,
            made_by=reservation.made_by,
            removed_by=removed_by,
        )

    def _entry(self, cause: Cause, told: Answered, explanation: Explanation) -> Entry:
        number, self._next = self._next, self._next + 1
        return Entry(number, cause.time_s, cause.nexus, cause.command, told, explanation)

    def entries(self) -> list[Entry]:
        """Returns what is kept, oldest first."""
        return sorted((*self._changes, *self._refusals), key=lambda entry: entry.number)


def _equal(one: Entry, other: Entry) -> bool:
    return one[2:6] == other[2:6]
