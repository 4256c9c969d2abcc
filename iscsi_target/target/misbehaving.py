"""A target that misbehaves on order: the machine, and rules that say what it does wrong.

While there are rules every connection has a tap, and all its PDUs go the long way through it; without any rule nothing
stands in the way of anything. What a rule keeps back goes on when its time is over, or when the rule is removed.
"""

from collections.abc import Iterable
from functools import partial

from iscsi_target.faults.actions import FOR_GOOD, Answer, Attention, Delay
from iscsi_target.faults.kinds import NAMES
from iscsi_target.faults.rulebook import Armed, Report, Rulebook
from iscsi_target.faults.rules import Rule, Subject
from iscsi_target.iscsi.events import CommandReceived
from iscsi_target.iscsi.framing import Incoming
from iscsi_target.iscsi.open_task import OpenTask, Response
from iscsi_target.target.actions import Action, FaultFired, Flow
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.link import Link
from iscsi_target.target.machine import Setting, Target
from iscsi_target.target.tap import Displaced, Stalled, Tap

PASSING_S = 1.0  # how long a PDU waits for those that are to pass it
FEW_HELD = 64  # commands that rules keep back; each session bounds how many it has


class _Held:
    """A command that a rule keeps back."""

    def __init__(self, armed: Armed, active: ActiveSession, task: OpenTask) -> None:
        self.armed = armed
        self.active = active
        self.task = task

    @property
    def stands(self) -> bool:
        """False when the command is over meanwhile."""
        tasks = self.active.session.tasks
        return not self.active.ending and tasks.get(self.task.received.tag) is self.task


class MisbehavingTarget(Target):
    """A target machine with rules; begun as a `Target` is."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._book = Rulebook()
        self._taps: dict[int, Tap] = {}
        self._held: dict[OpenTask, _Held] = {}
        self._most_held = FEW_HELD  # before those that are over meanwhile are looked for
        self._dispatcher.spoil = self._spoil

    # Rules

    @property
    def faults(self) -> tuple[Report, ...]:
        """The rules in force, in their order."""
        return self._book.reports

    def add_fault(self, rule: Rule, name: str = "") -> str:
        """Adds a rule after the others, for what comes and goes from now on, and returns its name.

        name     empty for a number
        raises   BookError
        """
        name = self._book.add(rule, name)
        for link in self._links.values():
            self._arm(link)
        return name

    def remove_faults(self, names: Iterable[str], now: float) -> list[Action]:
        """Removes rules and lets go on what they have kept back.

        raises   BookError when one is not there; nothing is removed then
        """
        self._dispatcher.now = now
        removed = self._book.remove(names)
        for number, tap in list(self._taps.items()):
            tap.forgive(removed)
            for stalled in (tap.reading, tap.writing):
                if stalled is not None and stalled.armed in removed:
                    self._release(number, stalled)
            for displaced in [each for each in tap.displaced if each.armed in removed]:
                self._overtake(number, displaced)
        for held in [held for held in self._held.values() if held.armed in removed]:
            self._let_go(held.task)
        if not self._book:
            for link in self._links.values():
                link.connection.tap = None
            self._taps.clear()
        return self._take_actions()

    # Connections

    def connected(self, number: int, portal_group_tag: int, local_address: str, now: float) -> list[Action]:
        """Takes in a new connection, as `Target` does."""
        actions = super().connected(number, portal_group_tag, local_address, now)
        if self._book:
            self._arm(self._links[number])
        return actions

    def _arm(self, link: Link) -> None:
        if link.connection.number not in self._taps:
            link.connection.tap = self._taps[link.connection.number] = Tap(link, self._book, self)

    def _drop(self, number: int) -> None:
        if (tap := self._taps.pop(number, None)) is not None:
            for reason in (tap.reading, tap.writing, *tap.displaced):
                self._dispatcher.give_up(reason)
        super()._drop(number)
        if self._held:
            self._forget_ended()

    # What taps tell

    def fired(self, link: Link, armed: Armed, subject: Subject) -> None:
        """Announces that a rule has fired."""
        tag = getattr(subject.header, "initiator_task_tag", None)
        pdu = NAMES[type(subject.header)]
        self._announce(FaultFired(link.connection.number, armed.name, armed.rule.text, pdu, tag, armed.fired))

    def stalled(self, link: Link, stalled: Stalled, seconds: float) -> None:
        """Stops one direction of a connection, what is queued already going out before."""
        self._send_queued(link.connection)
        self._tell_flow(link)
        if seconds != FOR_GOOD:
            self._dispatcher.put_off(stalled, partial(self._release, link.connection.number, stalled), seconds)

    def displaced(self, link: Link, displaced: Displaced) -> None:
        """Lets a PDU go on after a time, if those that are to pass it do not come."""
        self._dispatcher.put_off(displaced, partial(self._overtake, link.connection.number, displaced), PASSING_S)

    def passed(self, displaced: Displaced) -> None:
        """Waits no more for those that were to pass a PDU."""
        self._dispatcher.give_up(displaced)

    def _overtake(self, number: int, displaced: Displaced) -> None:
        """Lets a PDU go on although too few have passed it."""
        self._dispatcher.give_up(displaced)
        tap, link = self._taps.get(number), self._links.get(number)
        if tap is None or link is None or not tap.take_out(displaced):
            return
        if displaced.incoming is None:
            tap.put_late(displaced)
        else:
            for event in link.connection.deliver(displaced.incoming):
                self._handle(link, event)

    def _tell_flow(self, link: Link) -> None:
        tap = self._taps[link.connection.number]
        self._actions.append(Flow(link.connection.number, tap.reading is None, tap.writing is None))

    def _release(self, number: int, stalled: Stalled) -> None:
        """Lets a direction go on, unless it does so already or the connection is gone."""
        self._dispatcher.give_up(stalled)
        tap, link = self._taps.get(number), self._links.get(number)
        if tap is None or link is None:
            return
        if tap.writing is stalled:
            tap.writing = None
        elif tap.reading is stalled:
            tap.reading = None
            self._catch_up(link, stalled)
        if number in self._taps:
            self._tell_flow(link)

    def _catch_up(self, link: Link, stalled: Stalled) -> None:
        """Takes what has waited; some of it may have to wait again."""
        assert stalled.pdu is not None
        link.heard(self._dispatcher.now)
        self._set_alarm(link)
        for event in link.connection.deliver(stalled.pdu):
            self._handle(link, event)
        for kept in stalled.kept:
            self._receive(link, Incoming(kept))

    # Commands

    def _spoil(self, active: ActiveSession, event: CommandReceived) -> bool:
        """Does to a command in its turn what a rule has in mind for it; returns True when it does not go on now."""
        tap = self._taps.get(event.connection.number)
        armed = None if tap is None else tap.fates.get(event.tag)
        if tap is None or armed is None:
            return False
        action = armed.rule.action
        if isinstance(action, Attention):
            del tap.fates[event.tag]
            if (unit := active.unit(event.lun)) is not None:
                unit.nexuses.establish_for(active.nexus, action.code)
            return False
        if not active.session.open(event):
            return True  # it comes again when there is room
        del tap.fates[event.tag]
        if isinstance(action, Answer):
            sense = b"" if action.sense is None else action.sense.fixed()
            active.session.respond(event.tag, Response(action.status, sense))
            return True
        return self._hold(active, event, armed)

    def _hold(self, active: ActiveSession, event: CommandReceived, armed: Armed) -> bool:
        """Keeps a command back, for a time or until its rule is removed."""
        task = active.session.tasks[event.tag]
        if event.data is None:  # its immediate data is valid only now
            task.transfer.want(event.expected, task.take_immediate())
        task.held = True
        if len(self._held) >= self._most_held:
            self._forget_ended()
        self._held[task] = _Held(armed, active, task)
        if isinstance(armed.rule.action, Delay):
            self._dispatcher.put_off(task, partial(self._let_go, task), armed.rule.action.seconds)
        return True

    def _forget_ended(self) -> None:
        """Forgets commands that are over although they were kept back."""
        for task in [task for task, held in self._held.items() if not held.stands]:
            del self._held[task]
            self._dispatcher.give_up(task)
        self._most_held = max(FEW_HELD, 2 * len(self._held))

    def _let_go(self, task: OpenTask) -> None:
        """Lets a command begin that was kept back, unless it is over or has begun."""
        self._dispatcher.give_up(task)
        held = self._held.pop(task, None)
        if held is not None:
            task.held = False
            if held.stands and task.response is None:
                self._dispatcher.command(held.active, task.received)
