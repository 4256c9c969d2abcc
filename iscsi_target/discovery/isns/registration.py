"""The machine that keeps a target registered with an iSNS server: what comes from the server in, what to do out.

It has one conversation at a time, steps that are a request each and its answer: register and subscribe, look whether we
are still there, or deregister. The connection stays open in between, so that the end of the server is
noticed; when that comes back, the machine looks, and registers again if the server has forgotten. A server that closes
idle connections is looked after at ever longer intervals.
"""

from collections import deque
from enum import Enum, auto
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Tag, read_number, read_text
from iscsi_target.discovery.isns.description import (
    Description,
    deregistration,
    inquiry,
    registration,
    subscription,
)
from iscsi_target.discovery.isns.faults import Refused, Status, status_text
from iscsi_target.discovery.isns.messages import (
    Answer,
    Function,
    Request,
    Scn,
    pack_request,
    unpack_answer,
)
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader
from iscsi_target.discovery.isns.scn import read_changes

NEVER: Final = float("inf")
ANSWER_S: Final = 10.0  # for the answer to a request
MIN_RETRY_S: Final = 1.0
STABLE_S: Final = 30.0  # a connection that has lasted so long is opened again quickly when it is lost
MAX_RETRY_S: Final = 60.0
REFRESHES_PER_PERIOD: Final = 3  # so that two may be lost; RFC4171 6.2.6
MIN_PERIOD_S: Final = 3  # a server that grants less is not asked more often for that
MAX_ANSWER_BYTES: Final = 1 << 20


class Open(NamedTuple):
    """Connect to the server, then call `opened` or `lost`."""


class Send(NamedTuple):
    """Send a message on the connection."""

    message: Message


class Shut(NamedTuple):
    """Close the connection, or stop opening it; `lost` is not to be called."""


class Tell(NamedTuple):
    """Tell the operator what the server has done."""

    text: str


class Warn(NamedTuple):
    """Tell the operator that something is wrong with the server."""

    text: str


Action = Open | Send | Shut | Tell | Warn


class Link(Enum):
    """How the connection is."""

    DOWN = auto()
    OPENING = auto()
    UP = auto()


class Step(NamedTuple):
    """One request of a conversation.

    told    what the server has once it has answered that it was successful; None: nothing
    """

    request: Request
    told: Description | None = None


class Registration:
    """Keeps registered what is wanted; nothing at first."""

    def __init__(self) -> None:
        self._wanted: Description | None = None
        self._told: Description | None = None  # what the server has, as far as we know
        self._unsure = False  # whether to look if that is so
        self._with_esi = True
        self._link = Link.DOWN
        self._reader = MessageReader(MAX_ANSWER_BYTES)
        self._steps: deque[Step] = deque()  # the rest of the conversation; the first waits for its answer
        self._transaction = 0
        self._answer_by = NEVER
        self._open_at = 0.0  # not before
        self._opened_at = 0.0
        self._retry_s = MIN_RETRY_S
        self._period_s = 0
        self._refresh_at = NEVER
        self._trouble = ""  # of which the operator has been told

    @property
    def settled(self) -> bool:
        """Says whether the server has what is wanted, as far as we know."""
        return self._told == self._wanted and not self._steps

    def deadline(self) -> float:
        """Returns when `elapsed` is to be called at the latest."""
        open_at = self._open_at if self._link is Link.DOWN and self._has_to_talk else NEVER
        return min(self._answer_by, self._refresh_at, open_at)

    @property
    def _has_to_talk(self) -> bool:
        return self._unsure or self._told != self._wanted

    # What comes in

    def want(self, wanted: Description | None, now: float) -> list[Action]:
        """Registers something else from now on; None, or what has no target or portal: nothing."""
        self._wanted = wanted if wanted and wanted.nodes and wanted.portals else None
        self._with_esi = True
        self._open_at = now
        return self._go_on(now)

    def opened(self, now: float) -> list[Action]:
        """Takes notice that the connection is open."""
        self._link = Link.UP
        self._reader = MessageReader(MAX_ANSWER_BYTES)
        self._answer_by, self._opened_at = NEVER, now
        return self._go_on(now)

    def lost(self, reason: str, now: float) -> list[Action]:
        """Takes notice that the connection is closed, or could not be opened."""
        actions = self._complain(reason) if self._steps or self._link is Link.OPENING else []
        self._hang_up(now)
        return actions

    def received(self, data: bytes, now: float) -> list[Action]:
        """Takes what the server sent on the connection."""
        actions: list[Action] = []
        try:
            for message in self._reader.feed(data):
                if self._steps and message.transaction_id == self._transaction:
                    actions += self._answered(self._steps[0], unpack_answer(message), now)
        except (FramingError, Refused) as error:
            actions += [*self._complain(f"sends {error}"), Shut()]
            self._hang_up(now)
        return actions

    def notified(self, message: Message, now: float) -> list[Action]:
        """Takes an ESI or SCN of the server; when it has removed a target of ours, we look for it."""
        if message.function_id == Function.ESI:
            self._heard(now)
        if self._told is None or self._steps or message.function_id != Function.SCN:
            return []  # the steps may be what it tells of
        try:
            changes = read_changes(message.payload)
        except Refused:
            return []
        if not any(change & Scn.OBJECT_REMOVED and name in self._told.names for name, change in changes):
            return []
        self._unsure = True
        return self._go_on(now)

    def elapsed(self, now: float) -> list[Action]:
        """Does what time has come for."""
        if now >= self._answer_by:
            self._hang_up(now)
            return [*self._complain("does not answer"), Shut()]
        if now >= self._refresh_at:
            self._refresh_at = NEVER
            self._unsure = self._told is not None
        return self._go_on(now)

    # The conversation

    def _go_on(self, now: float) -> list[Action]:
        """Has the next conversation when there is something to say and none is under way."""
        if self._steps or not self._has_to_talk or self._link is Link.OPENING:
            return []
        if self._link is Link.UP:
            self._steps.extend(self._plan())
            return self._ask(now)
        if now < self._open_at:
            return []
        self._link = Link.OPENING
        self._answer_by = now + ANSWER_S
        return [Open()]

    def _plan(self) -> list[Step]:
        """Returns the steps that bring the server from what it was told to what is wanted."""
        wanted, told = self._wanted, self._told
        if told is not None and told == wanted:
            return [Step(inquiry(told.names[0], told.entity), told)]
        steps: list[Step] = []
        shared = [name for name in wanted.names if name in told.names] if wanted and told else []
        if told is not None and (wanted is None or wanted.entity != told.entity or not shared):
            steps.append(Step(deregistration(told.names[0], told.entity)))
        if wanted is not None:
            asked = wanted if self._with_esi else wanted._replace(esi_interval_s=0)
            steps.append(Step(registration(asked, (shared or wanted.names)[0]), wanted))
            steps += [Step(subscription(name), wanted) for name in wanted.names if wanted.notifiable]
        return steps

    def _ask(self, now: float) -> list[Action]:
        """Sends the request of the first step, or looks for the next conversation when none is left."""
        if not self._steps:
            self._answer_by = NEVER
            return self._go_on(now)
        self._transaction = self._transaction % 0xFFFF + 1
        self._answer_by = now + ANSWER_S
        return [Send(pack_request(self._steps[0].request, self._transaction))]

    def _answered(self, step: Step, answer: Answer, now: float) -> list[Action]:
        successful = answer.status == Status.SUCCESSFUL
        actions: list[Action] = []
        self._steps.popleft()
        self._heard(now)
        match step.request.function:
            case Function.DEV_ATTR_REG:
                if not successful:
                    return self._refused(answer.status, now)
                actions = self._registered(step, answer, now)
            case Function.DEV_DEREG:
                self._told = None
                actions = [Tell("was told that the registration ends")]
            case Function.DEV_ATTR_QRY:
                self._unsure = False
                if not _has_all(answer, step.told):
                    self._told = None
                    actions = [Warn("has lost a target, which is registered again")]
            case _:
                if not successful:
                    actions = [Tell(f"does not notify: {status_text(answer.status)}")]
        return actions + self._ask(now)

    def _registered(self, step: Step, answer: Answer, now: float) -> list[Action]:
        assert step.told is not None
        self._told, self._unsure, self._trouble = step.told, False, ""
        granted = [read_number(value) for tag, value in answer.operating if tag == Tag.REGISTRATION_PERIOD and value]
        self._period_s = max(MIN_PERIOD_S, granted[-1] if granted and granted[-1] else step.told.period_s)
        self._heard(now)
        return [Tell(f"has registered {step.told.entity} with targets: {', '.join(step.told.names)}")]

    def _refused(self, status: int, now: float) -> list[Action]:
        """Tries again later, and without ESI at once when the server does not offer that."""
        self._steps.clear()
        if status == Status.ESI_NOT_AVAILABLE and self._with_esi:
            self._with_esi = False
            return self._ask(now)
        actions = [*self._complain(f"refuses the registration: {status_text(status)}"), Shut()]
        self._hang_up(now)
        return actions

    def _heard(self, now: float) -> None:
        """Puts off the next look, since the server knows that we are there."""
        if self._told is not None:
            self._refresh_at = now + self._period_s / REFRESHES_PER_PERIOD
        if self._link is Link.UP and now - self._opened_at >= STABLE_S:
            self._retry_s = MIN_RETRY_S

    def _hang_up(self, now: float) -> None:
        """Forgets the connection; the next is opened later, and later each time."""
        self._link = Link.DOWN
        self._steps.clear()
        self._answer_by = NEVER
        self._unsure = self._told is not None
        self._open_at = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)

    def _complain(self, trouble: str) -> list[Action]:
        """Tells the operator of trouble, but not again of the same."""
        if trouble == self._trouble:
            return []
        self._trouble = trouble
        return [Warn(trouble)]


def _has_all(answer: Answer, told: Description | None) -> bool:
    """Says whether the answer to an inquiry names all targets that were registered."""
    found = {read_text(value) for tag, value in answer.operating if tag == Tag.ISCSI_NAME}
    return told is not None and found.issuperset(told.names)
