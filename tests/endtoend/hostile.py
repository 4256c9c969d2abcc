"""What attacks on a target are made of: an arena, the phases of a connection, and valid PDUs to spoil.

What an attack sends depends on its seed alone. Attackers come from loopback addresses of their own, because the target
limits connections by address and the well-behaved initiator must not pay for that.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from iscsi_target.iscsi.requests import (
    DataOut,
    LoginRequest,
    NopOut,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import ReadyToTransfer, ScsiResponse
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.status import Status
from iscsi_target.wire.crc32c import crc32c
from iscsi_target.wire.layout import Layout
from tests.endtoend.wire_initiator import (
    OPERATIONAL,
    ConnectionEnded,
    Initiator,
    Place,
    Wire,
    identity,
    log_in,
    text,
)

PATIENCE_S = 0.5  # with a target that takes or answers nothing
TRIES = 5
PHASE_S = 4.0  # of one try
FAREWELL_S = 3.0  # until a target has closed a connection after us; it lingers for two seconds
BLOCK_BYTES = 512
DIGESTS = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}


class Arena:
    """What an attack has: a unit to attack, randomness, and connections that are closed in the end.

    place     the unit
    source    the loopback address to come from
    """

    def __init__(self, place: Place, source: str, seed: int) -> None:
        self.place = place
        self.source = source
        self.random = random.Random(seed)
        self.sent = 0
        self._wires: list[Wire] = []
        self._isid = 0

    async def wire(self, receive_buffer_bytes: int = 0) -> Wire:
        """Connects."""
        self._wires.append(await Wire.open(self.place, self.source, receive_buffer_bytes))
        return self._wires[-1]

    def isid(self) -> bytes:
        """Returns an ISID that this arena has not used."""
        self._isid += 1
        return b"\x80" + int(self.source.rpartition(".")[2]).to_bytes(1) + self._isid.to_bytes(4)

    async def session(self, keys: dict[str, str] | None = None, wire: Wire | None = None) -> Initiator:
        """Logs in, as an initiator port of its own."""
        return await log_in(wire or await self.wire(), self.place, keys or {}, isid=self.isid())

    async def fire(self, wire: Wire, header: Layout, data: bytes = b"", additional: bytes = b"") -> bool:
        """Sends one hostile PDU."""
        return await self.fire_bytes(wire, wire.packed(header, data, additional))

    async def fire_raw(self, wire: Wire, header: bytes, data: bytes = b"") -> bool:
        """Sends a header as it is with data that may not be what it says, both with right digests."""
        pdu = header + _digest(header) * wire.header_digest
        if data:
            padded = data + bytes(-len(data) % 4)
            pdu += padded + _digest(padded) * wire.data_digest
        return await self.fire_bytes(wire, pdu)

    async def fire_bytes(self, wire: Wire, buffer: bytes, *, pdus: int = 1, deaf: bool = False) -> bool:
        """Sends bytes as far as the target takes them; returns False when it takes no more.

        deaf    True leaves unread what the target says
        """
        self.sent += pdus
        loop = asyncio.get_running_loop()
        view, deadline_s = memoryview(buffer), loop.time() + PATIENCE_S
        while view:
            try:
                view = view[wire.socket.send(view) :]
            except BlockingIOError:
                if loop.time() > deadline_s:
                    return False
            except OSError:
                return False
            if not deaf and not discard(wire):
                return False
            await asyncio.sleep(0.001 if view else 0)
        return True

    async def leave(self) -> None:
        """Ends all connections, by turns with a reset and in order; the target has handled the input of the latter."""
        async with asyncio.TaskGroup() as farewells:
            for wire in self._wires:
                if self.random.random() < 0.3 and wire.socket.fileno() >= 0:
                    wire.reset()
                else:
                    farewells.create_task(_leave(wire))


def discard(wire: Wire) -> bool:
    """Throws away what has come; returns False when the target has closed the connection."""
    try:
        while wire.socket.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _digest(data: bytes) -> bytes:
    return crc32c(data).to_bytes(4, "little")


async def _leave(wire: Wire) -> None:
    try:
        wire.socket.shutdown(1)
        await wire.ended(FAREWELL_S)
    except (OSError, TimeoutError):
        pass
    finally:
        wire.close()


def command(place: Place, cdb: Layout, *, read: int = 0, write: int = 0) -> ScsiCommand:
    """Returns a command, with the lengths that it claims to have room for and to send."""
    return ScsiCommand(
        lun=pack_lun(place.lun),
        read=read > 0,
        write=write > 0,
        expected_data_transfer_length=write or read,
        cdb=cdb.pack().ljust(16, b"\0"),
    )


# Phases: coroutines that bring a connection somewhere

Phase = Callable[[Arena], Awaitable[tuple[Wire, Initiator | None]]]


async def fresh(arena: Arena) -> tuple[Wire, None]:
    """Nothing has been sent."""
    return await arena.wire(), None


async def authenticating(arena: Arena) -> tuple[Wire, None]:
    """A login stays in the security stage."""
    wire = await arena.wire()
    request = LoginRequest(isid=arena.isid(), cmd_sn=1, initiator_task_tag=1)
    await wire.send(request, text(identity(arena.place) | {"AuthMethod": "None"}))
    await wire.receive()
    return wire, None


async def negotiating(arena: Arena) -> tuple[Wire, None]:
    """A login stays in the operational stage."""
    wire = await arena.wire()
    request = LoginRequest(current_stage=1, isid=arena.isid(), cmd_sn=1, initiator_task_tag=1)
    await wire.send(request, text(identity(arena.place) | OPERATIONAL))
    await wire.receive()
    return wire, None


async def discovering(arena: Arena) -> tuple[Wire, Initiator]:
    """A discovery session is in full feature phase."""
    initiator = await arena.session({"SessionType": "Discovery"})
    return initiator.wire, initiator


async def working(arena: Arena) -> tuple[Wire, Initiator]:
    """A normal session is in full feature phase."""
    initiator = await arena.session()
    return initiator.wire, initiator


async def working_with_digests(arena: Arena) -> tuple[Wire, Initiator]:
    """A normal session is in full feature phase and checks digests."""
    initiator = await arena.session(DIGESTS)
    return initiator.wire, initiator


async def owing(arena: Arena) -> tuple[Wire, Initiator]:
    """The target waits for Data-Out."""
    initiator = await arena.session()
    while True:
        await initiator.ready()
        await initiator.send(command(arena.place, Write16(lba=0, transfer_length=64), write=64 * BLOCK_BYTES))
        answer = (await initiator.receive()).header
        if isinstance(answer, ReadyToTransfer):
            return initiator.wire, initiator
        assert isinstance(answer, ScsiResponse)
        assert answer.status in (Status.BUSY, Status.CHECK_CONDITION), (
            "as another attacker has done something to the unit"
        )


async def reach(arena: Arena, phase: Phase) -> tuple[Wire, Initiator | None]:
    """Brings a connection to a phase.

    Tries again when another attacker closed it by TARGET COLD RESET, or ended its command without a status by a reset.
    """
    for _ in range(TRIES):
        try:
            async with asyncio.timeout(PHASE_S):
                return await phase(arena)
        except (ConnectionEnded, TimeoutError):
            pass
    raise AssertionError(f"the target does not let attackers get {phase.__name__}")


PHASES: tuple[Phase, ...] = (
    fresh,
    authenticating,
    negotiating,
    discovering,
    working,
    working_with_digests,
    owing,
)


def examples(arena: Arena, initiator: Initiator | None) -> list[tuple[bytes, bytes]]:
    """Returns one valid PDU of each kind, as header and data."""
    login = text(identity(arena.place) | OPERATIONAL)
    tag = initiator.last_tag if initiator is not None else 1
    found: list[tuple[Layout, bytes]] = [
        (LoginRequest(transit=True, current_stage=1, next_stage=3, isid=arena.isid(), cmd_sn=1), login),
        (
            DataOut(final=True, initiator_task_tag=initiator.last_tag if initiator else 1, target_transfer_tag=0),
            bytes(1024),
        ),
        (SnackRequest(initiator_task_tag=tag, run_length=1), b""),
    ]
    if initiator is not None:
        place = arena.place
        requests: tuple[tuple[NopOut | ScsiCommand | TaskManagementRequest | TextRequest, bytes], ...] = (
            (NopOut(), b"ping"),
            (command(place, Read16(lba=8, transfer_length=8), read=8 * BLOCK_BYTES), b""),
            (command(place, Write16(lba=8, transfer_length=2), write=1024), bytes(1024)),
            (TaskManagementRequest(function=5, lun=pack_lun(place.lun), immediate=True), b""),
            (TextRequest(), text({"SendTargets": "All"})),
        )
        found += [(initiator.numbered(request), data) for request, data in requests]
    return [(_with_length(header, data), data) for header, data in found]


def _with_length(header: Layout, data: bytes) -> bytes:
    return header.replace(data_segment_length=len(data)).pack()
