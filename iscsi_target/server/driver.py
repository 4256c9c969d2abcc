"""Drives one Target machine: gives it input, executes the actions that come back, decides no protocol question.

Everything that one batch of input led to is executed before the next input, and what it sends on a connection leaves in
one call. Whatever may block runs on a thread; its result is input like any other.

A bug in the machine must not take the other initiators down: an exception while it handles one connection is logged
with its traceback and ends that connection. This is the one place, with the saving tasks below, that catches
`Exception`. An operation always gets a result, be it a MediumError, because the machine waits for it.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count, starmap
from typing import TYPE_CHECKING, NamedTuple, TypeVarTuple, assert_never

from iscsi_target.scsi.operations import Buffer, Fault, MediumError
from iscsi_target.scsi.state.port_groups import AccessState
from iscsi_target.scsi.state.task import Ticket, UnitState
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.server.admission import Admission
from iscsi_target.server.journal import announce
from iscsi_target.server.poller import Lobby, Poller
from iscsi_target.server.transport import RECEIVE_BUFFER_BYTES, Channel
from iscsi_target.storage.medium import Medium, Result
from iscsi_target.target import (
    NEVER,
    Action,
    Announce,
    Close,
    ConnectionJoined,
    Event,
    FaultFired,
    Fill,
    Flow,
    Limits,
    Operated,
    Order,
    Perform,
    Persist,
    ReservationNoted,
    SanitizeNoted,
    Send,
    SessionEnded,
    SessionStarted,
    Target,
)

if TYPE_CHECKING:  # loaded by the server only when a trace is wanted
    from iscsi_target.server.trace import Trace

log = logging.getLogger(__name__)

TRACE_POLL_S = 0.01  # between looks whether a trace that is behind has caught up
MIN_TIMER_S = 0.005  # a deadline that has passed already does not make the loop spin

Arguments = TypeVarTuple("Arguments")
Save = Callable[[str, UnitState], Awaitable[None]]


class Settings(NamedTuple):
    """What a driver is told beside the machine.

    busy_poll_us   how long to ask for more input before sleeping
    limits         how many connections there may be
    """

    busy_poll_us: int = 0
    limits: Limits = Limits()


DEFAULT_SETTINGS = Settings()


class Driver:
    """Runs a target on the running event loop.

    target    the machine; only this driver gives it input
    tasks     owns the tasks that save
    save      stores a unit's state durably
    trace     is told what goes over the connections, or None
    observers are told of every new entry in a unit's timeline
    fault_observers   are told whenever a rule has made the target misbehave
    """

    def __init__(
        self,
        target: Target,
        tasks: asyncio.TaskGroup,
        save: Save,
        trace: "Trace | None",
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        self.media: dict[str, Medium] = {}
        self._target = target
        self._tasks = tasks
        self._save = save
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._poller = Poller(self._loop, settings.busy_poll_us / 1e6)
        self._lobby = Lobby(self._loop)
        self._admission = Admission(settings.limits, self._loop.time)
        self._numbers = count(1)
        self._buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
        self._channels: dict[int, Channel] = {}
        self._closing: dict[int, Channel] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._held: set[int] = set()
        self._draining = False
        self._drained = asyncio.Event()
        self._ended = False
        self._results: list[tuple[Ticket, int | None, Result]] = []
        self._saving: dict[str, set[asyncio.Task[None]]] = {}
        self._orders: dict[int, asyncio.Future[Entry]] = {}
        self.observers: set[Callable[[ReservationNoted], None]] = set()
        self.fault_observers: set[Callable[[FaultFired], None]] = set()

    # Connections

    def accept(self, accepted: socket.socket, portal_group_tag: int) -> None:
        """Takes over an accepted connection, or closes it when there are too many."""
        try:
            channel = Channel(next(self._numbers), accepted, self._buffer, self._lobby, self)
        except (OSError, ValueError):  # the peer is gone already
            accepted.close()
            return
        refusal = self._admission.refusal(channel.peer.host)
        if refusal:
            log.warning("connection from %s refused: %s", channel.peer, refusal)
            channel.abort()
            return
        self._make_room_for_login()
        self._admit(channel)
        self._input(channel.number, self._target.connected, channel.number, portal_group_tag, str(channel.local))
        if channel.number in self._channels:
            channel.start()

    def has_room(self) -> bool:
        """Returns False while connections had better wait to be accepted."""
        return self._admission.has_room()

    def channel_received(self, number: int, received: Sequence[memoryview]) -> None:
        """Gives the machine what came."""
        if self._trace is not None:
            self._trace.received(number, b"".join(received))
            if self._trace.behind:
                self._hold(number)
        self._input(number, self._target.received, number, received)

    def channel_sent(self, number: int, sent: Iterable[Buffer]) -> None:
        """Lets the trace see what went out."""
        if self._trace is not None:
            self._trace.sent(number, sent)

    def channel_lost(self, number: int, reason: str) -> None:
        """Tells the machine that a connection is gone."""
        log.debug("connection %d lost: %s", number, reason)
        self._forget(number)
        self._input(None, self._target.disconnected, number)

    def channel_closed(self, number: int) -> None:
        """Forgets a connection that the machine had closed."""
        self._forget(number)

    def _hold(self, number: int) -> None:
        """Stops reading from a connection until the trace has caught up, so that it stays complete."""
        if not self._held:
            self._loop.call_later(TRACE_POLL_S, self._release)
        self._held.add(number)
        self._channels[number].hold()

    def _release(self) -> None:
        if self._trace is not None and self._trace.behind and not self._ended:
            self._loop.call_later(TRACE_POLL_S, self._release)
            return
        held, self._held = self._held, set()
        for number in held & self._channels.keys():
            self._channels[number].release()

    def channel_congested(self, number: int) -> None:
        """Lets the machine hold back what would only pile up."""
        self._target.congested(number)

    def channel_relieved(self, number: int) -> None:
        """Lets the machine go on with what it held back."""
        self._input(number, self._target.relieved, number)

    def limit(self, limits: Limits) -> None:
        """Takes other limits, which hold for connections and logins from now on; what is open stays."""
        self._admission.limits = limits
        self._target.limit(limits)

    def _make_room_for_login(self) -> None:
        if self._admission.full:
            slowest = self._admission.first_to_go()
            waiting = self._admission.waiting
            log.warning("connection from %s cut: %d others wait to log in", self._channels[slowest].peer, waiting)
            self._sever(slowest)

    def _admit(self, channel: Channel) -> None:
        self._channels[channel.number] = channel
        self._admission.admit(channel)
        if self._trace is not None:
            self._trace.opened(channel.number, channel.local, channel.peer)

    def _forget(self, number: int) -> Channel | None:
        channel = self._channels.pop(number, None) or self._closing.pop(number, None)
        if channel is None:
            return None
        self._admission.forget(number)
        if self._trace is not None:
            self._trace.closed(number)
        return channel

    def _sever(self, number: int | None) -> None:
        """Cuts a connection at once."""
        channel = None if number is None else self._forget(number)
        if channel is not None and number is not None:
            channel.abort()
            self._input(None, self._target.disconnected, number)

    # The machine

    async def drain(self) -> None:
        """Lets the machine ask every initiator to log out, and returns when none is left and no task is open."""
        self._draining = True
        self._input(None, self._target.drain)
        await self._drained.wait()

    async def operate(self, order: Order) -> Entry:
        """Carries out an order of the operator and returns what it came to.

        raises    KeyError when there is no such unit
        """
        number = next(self._numbers)
        over = self._orders[number] = self._loop.create_future()
        try:
            self.order(self._target.operate, number, order)
            entry: Entry = await over
        finally:
            del self._orders[number]
        return entry

    def regroup(self, unit: str, wanted: Mapping[int, AccessState]) -> None:
        """Changes the states of target port groups of a unit, as no initiator asked for it."""
        self.input(self._target.change, unit, lambda its: its.regroup(wanted))

    def unload(self, unit: str) -> None:
        """Tells the machine that an operator removes the medium of a unit."""
        self.input(self._target.change, unit, LogicalUnit.unload)

    def _settle(self, number: int, entry: Entry) -> None:
        over = self._orders.get(number)  # none when nobody waits any more
        if over is not None and not over.done():
            over.set_result(entry)

    def input(self, call: Callable[[*Arguments, float], list[Action]], *arguments: *Arguments) -> None:
        """Gives the machine input that belongs to no connection; the time is added as the last argument."""
        self._input(None, call, *arguments)

    def order(self, call: Callable[[*Arguments, float], list[Action]], *arguments: *Arguments) -> None:
        """Gives the machine an operator's input as `input` does, and raises what it raises."""
        self._execute(call(*arguments, self._loop.time()), None)

    def _input(
        self, number: int | None, call: Callable[[*Arguments, float], list[Action]], *arguments: *Arguments
    ) -> None:
        self._execute(self._called(number, call, *arguments), number)

    def _called(
        self, number: int | None, call: Callable[[*Arguments, float], list[Action]], *arguments: *Arguments
    ) -> list[Action]:
        try:
            return call(*arguments, self._loop.time())
        except Exception:
            log.exception("internal error%s", "" if number is None else f"; connection {number} is closed")
            self._sever(number)
            return []

    def _execute(self, actions: Iterable[Action], number: int | None) -> None:
        """Executes actions in order."""
        for action in actions:
            match action:
                case Send():
                    self._send(action)
                case Perform():
                    self._perform(action, number)
                case Persist():
                    saving = self._tasks.create_task(self._persist(action, number))
                    self._saving.setdefault(action.unit, set()).add(saving)
                    saving.add_done_callback(self._saving[action.unit].discard)
                case Fill(connection, place):
                    if connection in self._channels:
                        self._channels[connection].fill(place)
                case Flow(connection, reads, writes):
                    if connection in self._channels:
                        self._channels[connection].let_flow(reads=reads, writes=writes)
                case Close(connection):
                    self._close(connection)
                case Announce(event):
                    self._announce(event)
                case Operated(order, entry):
                    self._settle(order, entry)
                case _:
                    assert_never(action)
        if self._target.deadline() < self._timer_at:
            self._set_timer()
        if self._draining and self._target.drained:
            self._drained.set()

    def _send(self, action: Send) -> None:
        connection = action.connection
        channel = self._channels.get(connection)
        if channel is None:
            return
        if self._trace is not None:
            for offset, length, about in action.remarks:
                self._trace.comment(connection, ahead=channel.unsent_bytes + offset, length=length, text=str(about))
        channel.send(action.buffers)
        if action.more:  # after the others have had their turn
            self._loop.call_soon(self._input, connection, self._target.sent, connection)

    def _close(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is None:
            return
        self._admission.settle(number)
        self._closing[number] = channel
        channel.close()

    def _announce(self, event: Event) -> None:
        if isinstance(event, SessionStarted | ConnectionJoined):
            self._admission.settle(event.connection)
            if (admitted := self._channels.get(event.connection)) is not None:
                admitted.move(self._poller)
        if isinstance(event, ReservationNoted):
            self._note(event)
        if isinstance(event, FaultFired):
            self._note_fault(event)
        number = None if isinstance(event, SessionEnded | SanitizeNoted) else event.connection
        channel = None if number is None else self._channels.get(number)
        announce(event, str(channel.peer) if channel is not None else "")

    def _note(self, event: ReservationNoted) -> None:
        for observer in tuple(self.observers):
            observer(event)

    def _note_fault(self, event: FaultFired) -> None:
        for observer in tuple(self.fault_observers):
            observer(event)
        if self._trace is not None and event.connection in self._channels:
            self._trace.note(event.connection, f"fault {event.rule} for {event.pdu}: {event.text}")

    # Operations

    def _perform(self, action: Perform, number: int | None) -> None:
        """Leaves an operation that may block to the medium's threads."""
        medium = self.media.get(action.unit)
        done = partial(self._performed, action, number)
        if medium is None:
            self._loop.call_soon(done, MediumError(Fault.GONE))
        else:
            medium.submit(action.operation, done)

    def _performed(self, action: Perform, number: int | None, result: Result) -> None:
        if not self._results:
            self._loop.call_soon(self._take_results)
        self._results.append((action.ticket, number, result))

    def _take_results(self) -> None:
        """Tells the machine of all that has finished by now; what a connection sends of it leaves in one call."""
        results, self._results = self._results, []
        output: dict[int, list[Buffer]] = {}
        for ticket, number, result in results:
            actions = self._called(number, self._target.finished, ticket, result)
            sends = [
                action for action in actions if isinstance(action, Send) and not action.remarks and not action.more
            ]
            if len(sends) == len(actions):
                for send in sends:
                    output.setdefault(send.connection, []).extend(send.buffers)
            else:
                self._execute([*starmap(Send, output.items()), *actions], number)
                output.clear()
        self._execute(starmap(Send, output.items()), None)

    async def _persist(self, action: Persist, number: int | None) -> None:
        result: MediumError | None = None
        try:
            await self._save(action.unit, action.state)
        except MediumError as error:
            log.error("state of unit %s is not saved: %s; the command that changed it fails", action.unit, error)
            result = error
        except Exception:
            log.exception("state of unit %s is not saved; the command that changed it fails", action.unit)
            result = MediumError(Fault.WRITE_FAILED)
        self._input(number, self._target.finished, action.ticket, result)

    async def saved(self, unit: str) -> None:
        """Returns when no save of a unit is under way any more."""
        while saving := self._saving.get(unit):
            await asyncio.wait(saving)

    # Time and the end

    def _set_timer(self) -> None:
        """Has the timer fire by the deadline.

        One that is set is put off by nothing. It fires early, finds nothing to do and is set again: cheaper than a
        timer for each input. And one for a deadline that is past would otherwise never fire on a busy server.
        """
        at = max(self._target.deadline(), self._loop.time() + MIN_TIMER_S)
        if at >= self._timer_at or self._ended:
            return
        self._cancel_timer()
        self._timer, self._timer_at = self._loop.call_at(at, self._elapsed), at

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, NEVER

    def _elapsed(self) -> None:
        self._timer, self._timer_at = None, NEVER
        self._input(None, self._target.elapsed)

    def end(self) -> None:
        """Cuts every connection; operations that are at a medium still finish."""
        self._ended = True
        self._target.halt()
        for number in list(self._channels):
            self._sever(number)
        for number, channel in list(self._closing.items()):
            channel.abort()
            self._forget(number)
        self._poller.close()
        self._lobby.close()
        self._cancel_timer()
