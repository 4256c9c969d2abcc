"""One of the targets that are compared: its nexuses, and what it does with a sequence."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import iscsi_target
from iscsi_target.client import ClientSession, IscsiUrl, Outcome
from iscsi_target.scsi.layouts.cdb import Release6, RequestSense
from iscsi_target.scsi.layouts.reservation_pages import (
    CapabilitiesData,
    FullStatusDescriptor,
    ReservationDescriptor,
    ReservationHeader,
    TransportIdHeader,
)
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.status import SenseKey, Status
from iscsi_target.wire.layout import LayoutError
from tools.differentials.steps import NEXUSES, OBSERVER, Sequence, Step, change, look

MAX_ATTENTIONS = 32  # that a nexus is asked for in a row; a target that never ends them is broken
CLEANING_KEY = 0xC1EA4
SENSE_BYTES = 252
COMMAND_TIMEOUT_S = 20.0


class Endless(Exception):
    """Says that a target does not come to an end with its unit attentions, or with a command."""


class Registered(NamedTuple):
    """A registration, as READ FULL STATUS tells it.

    initiator   the name; what else is in the TransportID differs between targets, and is compared with that command
    """

    initiator: str
    key: int
    holder: bool
    scope_and_type: tuple[int, int]


class State(NamedTuple):
    """What the observer sees.

    generation      PRGENERATION
    registrations   sorted
    reservation     key and type, or None
    aptpl           PTPL_A
    ports           which initiators are registered through which target ports, sorted; None when ALL_TG_PT stands for
                    that, as one cannot see then which of them are left
    withheld        True when the observer is not told, as of a unit that is reserved with RESERVE
    """

    generation: int = 0
    registrations: tuple[Registered, ...] = ()
    reservation: tuple[int, int] | None = None
    aptpl: bool = False
    ports: tuple[tuple[str, int], ...] | None = ()
    withheld: bool = False


class Observation(NamedTuple):
    """What came of a step.

    answers       status and sense of the command; before it those unit attentions that came instead
    data          what it returned
    attentions    nexus -> the unit attentions that it has when it is asked, if it is
    state         after the step
    """

    answers: tuple[str, ...]
    data: bytes
    attentions: Mapping[str, tuple[str, ...]]
    state: State


class Played(NamedTuple):
    """What came of a sequence.

    before    the state before it
    seen      one for each step
    """

    before: State
    seen: tuple[Observation, ...]


def answer(outcome: Outcome) -> str:
    """Returns what a reader is told of an outcome."""
    if outcome.status == Status.CHECK_CONDITION:
        code = outcome.additional_sense_code
        return f"{outcome.sense_key:X}/{code >> 8:02X}/{code & 0xFF:02X}"
    return outcome.status.name.replace("_", " ") if isinstance(outcome.status, Status) else f"{outcome.status:#04x}"


class Side:
    """A target that is logged in to by every nexus.

    name        what reports call it
    sessions    name of the nexus -> its session
    lun         of the unit
    """

    def __init__(self, name: str, sessions: Mapping[str, ClientSession], lun: int) -> None:
        self.name = name
        self._sessions = sessions
        self._lun = lun

    async def play(self, sequence: Sequence) -> Played:
        """Performs a sequence on a unit without registrations; raises Endless."""
        await self._clean()
        before = await self._state()
        return Played(before, tuple([await self._observe(step, sequence) for step in sequence.steps]))

    async def _observe(self, step: Step, sequence: Sequence) -> Observation:
        answers, data = await self._perform(step)
        attentions = {name: await self._attentions(name) for name in sequence.cast} if sequence.asks else {}
        return Observation(answers, data, attentions, await self._state())

    async def _send(self, step: Step) -> Outcome:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                return await self._sessions[step.nexus].command(
                    self._lun, step.cdb, data_out=step.data_out, read_length=step.read_length
                )
        except TimeoutError:
            raise Endless(f"{self.name} does not answer to {step}") from None

    async def _perform(self, step: Step) -> tuple[tuple[str, ...], bytes]:
        """Sends a step until it is not answered by a unit attention."""
        answers: list[str] = []
        while len(answers) < MAX_ATTENTIONS:
            outcome = await self._send(step)
            answers.append(answer(outcome))
            if outcome.status != Status.CHECK_CONDITION or outcome.sense_key != SenseKey.UNIT_ATTENTION:
                return tuple(answers), outcome.data
        raise Endless(f"{self.name} has no end of unit attentions for {step}: {answers}")

    async def _clean(self) -> None:
        """Takes all reservations and registrations back, and the unit attentions."""
        release = Release6().pack()
        await asyncio.gather(*(self._send(Step(name, "RELEASE(6)", "", release)) for name in NEXUSES))
        ignoring = OutAction.REGISTER_AND_IGNORE_EXISTING_KEY
        for step in (
            change(OBSERVER, ignoring, (0, CLEANING_KEY)),
            change(OBSERVER, OutAction.CLEAR, (CLEANING_KEY, 0)),
        ):
            answers, _ = await self._perform(step)
            if answers[-1] != "GOOD":
                raise Endless(f"{self.name} cannot be cleaned: {step} is answered {answers[-1]}")
        await asyncio.gather(*(self._attentions(name) for name in NEXUSES))

    async def _attentions(self, nexus: str) -> tuple[str, ...]:
        """Returns the unit attentions of a nexus, asked for by REQUEST SENSE, which no reservation stops."""
        told: list[str] = []
        cdb = RequestSense(allocation_length=SENSE_BYTES).pack()
        while len(told) < MAX_ATTENTIONS:
            outcome = await self._send(Step(nexus, "REQUEST SENSE", "", cdb, read_length=SENSE_BYTES))
            sense = FixedSense.unpack(outcome.data.ljust(FixedSense.size, b"\0"))
            if sense.sense_key != SenseKey.UNIT_ATTENTION:
                return tuple(told)
            told.append(f"{sense.additional_sense_code >> 8:02X}/{sense.additional_sense_code & 0xFF:02X}")
        raise Endless(f"{self.name} has no end of unit attentions for {nexus}: {told}")

    async def _state(self) -> State:
        actions = (InAction.READ_FULL_STATUS, InAction.READ_RESERVATION, InAction.REPORT_CAPABILITIES)
        status, reservation, capabilities = await asyncio.gather(
            *(self._send(look(OBSERVER, action)) for action in actions)
        )
        if not (status.good and reservation.good and capabilities.good):
            return State(withheld=True)
        return State(
            ReservationHeader.unpack(status.data).pr_generation,
            tuple(sorted(_registered(status.data))),
            _held(reservation.data),
            CapabilitiesData.unpack(capabilities.data).ptpl_a,
            _ports(status.data),
        )


def _held(data: bytes) -> tuple[int, int] | None:
    if len(data) == ReservationHeader.size:
        return None
    found = ReservationDescriptor.unpack(data, ReservationHeader.size)
    return found.reservation_key, found.type


def _registered(data: bytes) -> Iterator[Registered]:
    for found, name in descriptors(data):
        yield Registered(name.partition(",")[0], found.reservation_key, found.r_holder, (found.scope, found.type))


def _ports(data: bytes) -> tuple[tuple[str, int], ...] | None:
    found = list(descriptors(data))
    if any(one.all_tg_pt for one, _ in found):
        return None
    return tuple(sorted((name.partition(",")[0], one.relative_target_port_identifier) for one, name in found))


def descriptors(data: bytes) -> Iterator[tuple[FullStatusDescriptor, str]]:
    """Returns the descriptors of READ FULL STATUS with the text of their TransportIDs, up to one that is cut."""
    at = ReservationHeader.size
    while at < len(data):
        try:
            found = FullStatusDescriptor.unpack(data, at)
            header = TransportIdHeader.unpack(data, at + found.size)
        except LayoutError:
            return
        start = at + found.size + header.size
        text = data[start : start + header.additional_length]
        if len(text) < header.additional_length:
            return
        yield found, text.split(b"\0")[0].decode(errors="replace")
        at += found.size + found.additional_descriptor_length


class Place(NamedTuple):
    """Where a target is.

    ports    relative identifier of a target port -> TCP port of 127.0.0.1
    target   its iSCSI name
    """

    ports: Mapping[int, int]
    target: str


@asynccontextmanager
async def logged_in(place: Place) -> AsyncIterator[Mapping[str, ClientSession]]:
    """Logs every nexus in to a target; name of the nexus -> its session."""
    async with AsyncExitStack() as stack:
        sessions = {}
        for name, port in NEXUSES.items():
            url = IscsiUrl("127.0.0.1", place.ports[port.target], place.target)
            connected = iscsi_target.connect(url, initiator_name=port.initiator.name, isid=port.initiator.isid)
            sessions[name] = await stack.enter_async_context(connected)
        yield sessions


async def play_on(sides: Iterable[Side], sequence: Sequence) -> tuple[Played, ...]:
    """Performs a sequence on several targets at once."""
    return tuple(await asyncio.gather(*(side.play(sequence) for side in sides)))
