"""Ways to attack a target: each misbehaves in one way, and `ATTACKS` names them all."""

import asyncio
from collections.abc import Awaitable, Callable

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import (
    REQUESTS,
    DataOut,
    LoginRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import LoginResponse
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from iscsi_target.scsi.layouts.cdb import Inquiry, TestUnitReady
from iscsi_target.scsi.layouts.lun import pack_lun
from tests.endtoend.hostile import (
    BLOCK_BYTES,
    PATIENCE_S,
    PHASES,
    Arena,
    command,
    examples,
    owing,
    reach,
    working_with_digests,
)
from tests.endtoend.wire_initiator import ConnectionEnded, Wire, identity, log_in, text

EVERYTHING = 0xFFFFFFFF
WINDOW = 128  # commands that a target takes at once
LARGEST = 8 << 20  # of one read or write, which is the MAXIMUM TRANSFER LENGTH
TEXT_PDUS = 150
OPCODES = tuple(REQUESTS)

Attack = Callable[[Arena], Awaitable[None]]


async def random_bytes(arena: Arena) -> None:
    """Noise instead of iSCSI."""
    for _ in range(40):
        await arena.fire_bytes(await arena.wire(), arena.random.randbytes(arena.random.randrange(1, 8192)))


async def random_pdus(arena: Arena) -> None:
    """Any header of a known opcode, in every phase."""
    for phase in PHASES * 6:
        wire, _ = await reach(arena, phase)
        for _ in range(12):
            data = arena.random.randbytes(arena.random.choice((0, 0, 1, 48, 512)))
            start = bytes([arena.random.choice(OPCODES) | arena.random.choice((0, 0x40))])
            header = start + arena.random.randbytes(3) + len(data).to_bytes(4) + arena.random.randbytes(40)
            if not await arena.fire_raw(wire, header, data):
                break


async def mutated_pdus(arena: Arena) -> None:
    """Valid PDUs with a few bits turned, in every phase."""
    for phase in PHASES * 10:
        wire, initiator = await reach(arena, phase)
        for header, data in examples(arena, initiator):
            mutated = bytearray(header)
            for _ in range(arena.random.randrange(1, 4)):
                mutated[arena.random.randrange(48)] ^= 1 << arena.random.randrange(8)
            if not await arena.fire_raw(wire, bytes(mutated), data):
                break


async def cut_pdus(arena: Arena) -> None:
    """A connection that ends in the middle of a PDU, in every phase."""
    for phase in PHASES * 8:
        wire, initiator = await reach(arena, phase)
        header, data = arena.random.choice(examples(arena, initiator))
        whole = header + data
        await arena.fire_bytes(wire, whole[: arena.random.randrange(1, len(whole))])


async def huge_lengths(arena: Arena) -> None:
    """Lengths beyond every limit, in every phase."""
    for phase in PHASES:
        for additional, length in ((0, 0xFFFFFF), (255, 0), (255, 0xFFFFFF), (81, 8), (0, 0x40001)):
            wire, _ = await reach(arena, phase)
            kind = arena.random.choice(tuple(REQUESTS.values()))
            header = kind(total_ahs_length=additional, data_segment_length=length).pack()
            await arena.fire_raw(wire, header, bytes(4096))


async def endless_text(arena: Arena) -> None:
    """Text that always continues, in a login and after it."""
    wire = await arena.wire()
    part = b"X-example=" + b"a" * 4086
    login = LoginRequest(continue_=True, current_stage=1, isid=arena.isid(), cmd_sn=1, initiator_task_tag=1)
    for _ in range(TEXT_PDUS):
        await arena.fire_bytes(wire, wire.packed(login, part), deaf=True)
        if await _is_refused(wire):
            break
    else:
        raise AssertionError("the target took 600 KiB of text in a login")
    initiator = await arena.session()
    for _ in range(TEXT_PDUS):
        await arena.fire(initiator.wire, initiator.numbered(TextRequest(final=False, continue_=True)), part)


async def _is_refused(wire: Wire) -> bool:
    """Returns True when the answer to a Login Request is a refusal, or the end because the login took too long."""
    try:
        answer = (await wire.receive()).header
    except ConnectionEnded:
        return True
    return isinstance(answer, LoginResponse) and answer.status_class > 0


async def slow_logins(arena: Arena) -> None:
    """Logins that arrive byte by byte, until the target has had enough."""
    request = LoginRequest(transit=True, current_stage=1, next_stage=3, isid=arena.isid())
    wires = [await arena.wire() for _ in range(30)]
    whole = wires[0].packed(request, text(identity(arena.place)))
    arena.sent += len(wires)
    for position in range(len(whole) - 1):
        alive = [wire for wire in wires if await arena.fire_bytes(wire, whole[position : position + 1], pdus=0)]
        if not alive:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the target waited for a login to its last byte")


async def half_open(arena: Arena) -> None:
    """Connections that say nothing, that stop sending, and that vanish with commands under way."""
    for _ in range(20):
        await arena.wire()
    for _ in range(20):
        initiator = await arena.session()
        for lba in range(8):
            read = command(arena.place, Read16(lba=lba, transfer_length=64), read=64 * BLOCK_BYTES)
            await arena.fire(initiator.wire, initiator.numbered(read))
        if arena.random.random() < 0.5:
            initiator.wire.socket.shutdown(1)
        else:
            initiator.wire.reset()


async def connection_flood(arena: Arena) -> None:
    """More connections and sessions from one address than the target lets in."""
    for index in range(330):
        try:
            wire = await arena.wire()
            arena.sent += 1
            if index % 4:
                await arena.session({"SessionType": "Discovery"}, wire)
        except ConnectionEnded:
            pass


async def deaf_readers(arena: Arena) -> None:
    """Peers that ask for as much as they may, or for little of much, and never read."""
    for length in (LARGEST, LARGEST, 64 << 10, 64 << 10):
        initiator = await arena.session(wire=await arena.wire(receive_buffer_bytes=4096))
        read = command(arena.place, Read16(lba=0, transfer_length=LARGEST // BLOCK_BYTES), read=length)
        burst = b"".join(initiator.wire.packed(initiator.numbered(read)) for _ in range(WINDOW))
        await arena.fire_bytes(initiator.wire, burst, pdus=WINDOW, deaf=True)
    await asyncio.sleep(2 * PATIENCE_S)


async def vast_expectations(arena: Arena) -> None:
    """Commands that claim to transfer 4 GiB, with data, without, and with data that was not asked for."""
    for _ in range(10):
        initiator = await arena.session()
        for cdb in (Read16(transfer_length=8), Write16(transfer_length=8), Inquiry(allocation_length=255)):
            for read, write, final, immediate in (
                (EVERYTHING, 0, True, 0),
                (0, EVERYTHING, True, 0),
                (0, EVERYTHING, False, 100),
                (EVERYTHING, EVERYTHING, True, 8192),
                (0, 1, True, 8192),
                (0, 0, False, 0),
            ):
                request = command(arena.place, cdb, read=read, write=write).replace(final=final)
                await arena.fire(initiator.wire, initiator.numbered(request), bytes(immediate))
        past = command(arena.place, Read16(transfer_length=EVERYTHING), read=EVERYTHING)
        await arena.fire(initiator.wire, initiator.numbered(past))


async def tiny_data_out(arena: Arena) -> None:
    """Data-Out of one byte a PDU, and of none, without end."""
    for length in (1, 0):
        wire, initiator = await reach(arena, owing)
        assert initiator is not None
        parts = [
            wire.packed(
                DataOut(
                    initiator_task_tag=initiator.last_tag,
                    target_transfer_tag=0,
                    data_sn=index,
                    buffer_offset=index * length,
                ),
                bytes(length),
            )
            for index in range(1500)
        ]
        await arena.fire_bytes(wire, b"".join(parts), pdus=len(parts))


async def immediate_flood(arena: Arena) -> None:
    """Far more immediate commands than there is room for, at once."""
    for cdb, write in ((TestUnitReady(), 0), (Write16(transfer_length=64), 64 * BLOCK_BYTES)):
        initiator = await arena.session()
        request = command(arena.place, cdb, write=write).replace(immediate=True)
        burst = b"".join(initiator.wire.packed(initiator.numbered(request)) for _ in range(400))
        await arena.fire_bytes(initiator.wire, burst, pdus=400)


async def wrong_transfers(arena: Arena) -> None:
    """Data-Out for transfer tags and tasks that do not exist, out of order, twice, and beyond the end."""
    for _ in range(10):
        wire, _ = await reach(arena, owing)
        for _ in range(20):
            header = DataOut(
                final=arena.random.random() < 0.3,
                initiator_task_tag=arena.random.choice((0, 1, 2, 3, NO_TAG)),
                target_transfer_tag=arena.random.choice((0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFE, NO_TAG)),
                data_sn=arena.random.choice((0, 0, 1, 2, EVERYTHING)),
                buffer_offset=arena.random.choice((0, 512, 1024, 1 << 20, EVERYTHING)),
            )
            await arena.fire(wire, header, bytes(arena.random.choice((0, 1, 512, 8192))))


async def wrong_digests(arena: Arena) -> None:
    """PDUs whose header or data digest is wrong."""
    for data in (b"", b"ping") * 10:
        wire, initiator = await reach(arena, working_with_digests)
        assert initiator is not None
        whole = bytearray(wire.packed(initiator.numbered(NopOut()), data))
        whole[-1] ^= 0x01
        await arena.fire_bytes(wire, bytes(whole))


async def management_storm(arena: Arena) -> None:
    """Task management of every kind, known and unknown, with commands under way."""
    for _ in range(4):
        initiator = await arena.session()
        burst, count = b"", 0
        for _ in range(25):
            write = command(arena.place, Write16(lba=arena.random.randrange(64), transfer_length=8), write=4096)
            function = TaskManagementRequest(
                immediate=arena.random.random() < 0.5,
                function=arena.random.choice((1, 1, 2, 4, 5, 6, 3, 8, 0, 77)),
                lun=pack_lun(arena.place.lun),
                referenced_task_tag=arena.random.randrange(50),
                ref_cmd_sn=arena.random.randrange(150),
            )
            for request, data in ((write, bytes(4096)), (write, b""), (function, b"")):
                burst += initiator.wire.packed(initiator.numbered(request), data)
                count += 1
        await arena.fire_bytes(initiator.wire, burst, pdus=count)


async def reinstatement_storm(arena: Arena) -> None:
    """One initiator port that logs in again and again, with commands under way."""
    isid = arena.isid()
    for _ in range(40):
        initiator = await log_in(await arena.wire(), arena.place, isid=isid)
        for lba in range(4):
            read = command(arena.place, Read16(lba=lba, transfer_length=2048), read=2048 * BLOCK_BYTES)
            await arena.fire(initiator.wire, initiator.numbered(read))


async def command_numbers(arena: Arena) -> None:
    """Command numbers that come early with all the data that is allowed, twice, late, and from outside the window."""
    for _ in range(2):
        initiator = await arena.session()
        write = command(arena.place, Write16(lba=0, transfer_length=128), write=128 * BLOCK_BYTES)
        for number in [*range(WINDOW - 1, 1, -1), 5, 5, 0, 2**31, 500]:
            request = write.replace(initiator_task_tag=1000 + number, cmd_sn=1 + number)
            await arena.fire(initiator.wire, request, bytes(128 * BLOCK_BYTES))


async def hoarded_writes(arena: Arena) -> None:
    """As many of the largest writes as the window admits, and no data for any."""
    for _ in range(4):
        initiator = await arena.session({"MaxOutstandingR2T": "16", "MaxBurstLength": "1048576"})
        write = command(arena.place, Write16(lba=0, transfer_length=LARGEST // BLOCK_BYTES), write=LARGEST)
        burst = b"".join(initiator.wire.packed(initiator.numbered(write)) for _ in range(WINDOW))
        await arena.fire_bytes(initiator.wire, burst, pdus=WINDOW)


async def random_commands(arena: Arena) -> None:
    """Every command of the table with random fields and parameter data."""
    for _ in range(5):
        initiator = await arena.session()
        for row in TABLE:
            tail = arena.random.randbytes(row.layout.size - 2)
            cdb = bytes([row.operation_code, row.service_action or arena.random.choice((0, 1, 8, 16))]) + tail
            data = arena.random.randbytes(arena.random.choice((0, 0, 4, 24, 512, 4096)))
            request = ScsiCommand(
                attributes=arena.random.randrange(5),
                read=not data,
                write=len(data) > 0,
                lun=pack_lun(arena.random.choice((arena.place.lun, arena.place.lun, 77))),
                expected_data_transfer_length=len(data) or arena.random.choice((0, 4, 512, 65536)),
                cdb=cdb.ljust(16, b"\0")[:16],
            )
            await arena.fire(initiator.wire, initiator.numbered(request), data)


ATTACKS: tuple[Attack, ...] = (
    random_bytes,
    random_pdus,
    mutated_pdus,
    cut_pdus,
    huge_lengths,
    endless_text,
    slow_logins,
    half_open,
    connection_flood,
    deaf_readers,
    vast_expectations,
    tiny_data_out,
    immediate_flood,
    wrong_transfers,
    wrong_digests,
    management_storm,
    reinstatement_storm,
    command_numbers,
    hoarded_writes,
    random_commands,
)
