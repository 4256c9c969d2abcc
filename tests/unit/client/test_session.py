"""A session as a program sees it, with a real server at the other end."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import iscsi_target
from iscsi_target.client import (
    Aborted,
    CommandFailed,
    CorruptDataDigest,
    CorruptHeaderDigest,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Managed,
    ManagementResponse,
    NotLoggedIn,
    Options,
    Preferences,
    Reconnect,
    Rejected,
    Renumber,
    Rule,
    SessionEnded,
    TaskManagement,
    connect,
)
from iscsi_target.config.values import SERVED, Configuration, ram_configuration
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand, SnackRequest, TaskManagementRequest
from iscsi_target.iscsi.responses import AsyncMessage, NopIn, Reject
from iscsi_target.scsi.layouts.block_cdb import Write16
from iscsi_target.scsi.layouts.cdb import Inquiry, ReportLuns
from iscsi_target.scsi.status import SenseKey, Status
from tests.initiator import READY

BLOCK = 512
SIZE = 8 << 20


@pytest.fixture
async def server():
    async with iscsi_target.serve(ram=SIZE) as serving:
        yield serving


@pytest.fixture
async def session(server):
    async with connect(server.url("disk0")) as connected:
        await connected.ready()
        yield connected


PREFERENCES = [
    Preferences(),
    Preferences(initial_r2t=True, immediate_data=False),
    Preferences(header_digest=("CRC32C",), data_digest=("CRC32C",)),
    Preferences(
        max_recv_data_segment_length=1000, max_burst_length=5000, first_burst_length=3000, max_outstanding_r2t=1
    ),
]


@pytest.mark.parametrize("preferences", PREFERENCES)
async def test_what_is_written_is_read(server, preferences: Preferences):
    content = os.urandom(1 << 20)
    async with connect(server.url("disk0"), options=Options(preferences)) as session:
        await session.write(3, content)
        await session.flush()
        assert await session.read(3, len(content) // BLOCK) == content
        assert await session.capacity() == (SIZE // BLOCK, BLOCK)


async def test_many_commands_at_once_keep_to_the_window(session):
    contents = [os.urandom(BLOCK) for _ in range(400)]
    await asyncio.gather(*(session.write(lba, content) for lba, content in enumerate(contents)))
    assert await asyncio.gather(*(session.read(lba, 1) for lba in range(400))) == contents


async def test_part_of_a_block_is_not_written(session):
    with pytest.raises(ValueError, match="blocks"):
        await session.write(0, b"short")


async def test_command_that_fails_in_the_view_of_a_disk_tells_its_outcome(session):
    with pytest.raises(CommandFailed) as failed:
        await session.read(SIZE // BLOCK, 1)
    assert failed.value.outcome.sense_key is SenseKey.ILLEGAL_REQUEST
    assert failed.value.outcome.additional_sense_code == 0x2100


async def test_raw_cdb_has_an_outcome_whatever_it_is(session):
    outcome = await session.command(0, Inquiry(allocation_length=36), read_length=255)
    assert outcome.good
    assert len(outcome.data) == 36
    assert outcome.residual == (False, True, 255 - 36)
    outcome = await session.command(0, b"\xff" + bytes(5))
    assert (outcome.status, outcome.additional_sense_code) == (Status.CHECK_CONDITION, 0x2000)
    outcome = await session.command(9, READY)
    assert outcome.additional_sense_code == 0x2500
    assert (await session.command(0, ReportLuns(allocation_length=16), read_length=16)).good


async def test_attention_is_the_callers_business_for_a_raw_command(server):
    async with connect(server.url("disk0")) as session:
        await session.ready()
        assert await session.manage(TaskManagement.LOGICAL_UNIT_RESET) == Managed(ManagementResponse.FUNCTION_COMPLETE)
        outcome = await session.command(0, READY)
        assert outcome.sense_key is SenseKey.UNIT_ATTENTION
        assert (await session.command(0, READY)).good


async def test_response_of_a_function_is_told(session):
    refused = await session.manage(TaskManagement.ABORT_TASK_SET, 5)
    assert refused.response is ManagementResponse.LUN_DOES_NOT_EXIST


async def test_query_tells_what_the_unit_has_to_tell(server):
    async with connect(server.url("disk0"), options=Options(Preferences(protocol_level=2))) as session:
        asked = await session.manage(TaskManagement.QUERY_ASYNCHRONOUS_EVENT)
        assert asked.response is ManagementResponse.FUNCTION_SUCCEEDED
        assert asked.information[1:2] == b"\x29"  # POWER ON, RESET OR BUS DEVICE RESET OCCURRED
        await session.ready()
        assert await session.manage(TaskManagement.QUERY_ASYNCHRONOUS_EVENT) == (0, bytes(3))


async def test_aborted_command_tells_that_it_was(session):
    session.inject(Rule(DataOut, Drop(), times=100))
    write = session.start(0, Write16(transfer_length=2048), data_out=bytes(1 << 20))
    await session.ping()
    assert (await session.abort(write)).response is ManagementResponse.FUNCTION_COMPLETE
    with pytest.raises(Aborted):
        await write
    with pytest.raises(Aborted):
        await write  # as often as it is asked
    assert (await session.abort(write)).response is ManagementResponse.TASK_DOES_NOT_EXIST


async def test_command_that_waits_for_the_window_is_taken_back(session):
    session.inject(Rule(ScsiCommand, Drop()))
    tasks = [session.start(0, READY) for _ in range(200)]
    assert (await session.abort(tasks[-1])).response is ManagementResponse.FUNCTION_COMPLETE
    with pytest.raises(Aborted):
        await tasks[-1]
    await session.close()


async def test_cancelled_call_leaves_the_command_to_the_target(session):
    task = session.start(0, READY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await task
    assert (await task).good


async def test_ping_and_text(session):
    assert await session.ping(b"hello") == b"hello"
    assert await session.text([("X-com.example", "1")]) == [("X-com.example", "NotUnderstood")]
    [target] = await session.send_targets("")
    assert target.name.endswith(":disk0")
    first, second = await asyncio.gather(session.text([("X-1", "1")]), session.text([("X-2", "1")]))
    assert (first, second) == ([("X-1", "NotUnderstood")], [("X-2", "NotUnderstood")])


async def test_rejected_request_is_told(session):
    many = [session.manage(TaskManagement.ABORT_TASK_SET, 0) for _ in range(2)]
    await asyncio.gather(*many)
    with pytest.raises(Rejected) as rejected:
        await session.text([("MaxRecvDataSegmentLength", "Irrelevant"), ("InitialR2T", "NotUnderstood")])
    assert rejected.value.reason == 4


async def test_logout_is_answered_and_nothing_can_be_asked_afterwards(session):
    answer = await session.log_out()
    assert answer is not None
    assert answer.response == 0
    assert await session.log_out() is None
    for ask in (session.ping, session.message, session.receive_raw, lambda: session.command(0, READY)):
        with pytest.raises(SessionEnded):
            await ask()


async def test_target_that_is_to_end_sends_a_message_and_is_obeyed(server, session):
    drained = await asyncio.gather(server.drain(), session.message())
    message = drained[1]
    assert isinstance(message.header, AsyncMessage)
    assert message.header.async_event == 1
    assert await session.log_out() is None
    assert session.ended == "logged out"


# Raw PDUs


async def test_raw_pdu_is_answered_raw(session):
    request = session.number(NopOut())
    await session.send_raw(request, b"raw")
    header, data = await session.receive_raw()
    assert isinstance(header, NopIn)
    assert (header.initiator_task_tag, data) == (request.initiator_task_tag, b"raw")
    assert await session.ping() == b""  # the numbers go on


async def test_reject_of_a_raw_pdu_is_received_raw(session):
    snack = SnackRequest(kind=1, initiator_task_tag=NO_TAG)
    await session.send_raw(snack)
    header, data = await session.receive_raw()
    assert isinstance(header, Reject)
    assert data == snack.pack()


async def test_bytes_that_are_no_pdu_end_the_session(session):
    await session.send_bytes(b"\xff" * 5000)
    header, _ = await session.receive_raw()
    assert isinstance(header, Reject)
    with pytest.raises(SessionEnded):
        await session.receive_raw()
    assert session.ended


# Faults


async def test_duplicate_command_is_performed_once(session):
    session.inject(Rule(ScsiCommand, Duplicate()))
    await session.write(0, bytes([1]) * BLOCK)
    assert await session.read(0, 1) == bytes([1]) * BLOCK
    assert session.faults.pending == ()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await session.receive_raw()  # nothing but the one answer


async def test_command_that_comes_late_is_performed_in_its_turn(session):
    await session.capacity()
    session.inject(Rule(ScsiCommand, Delay(1)))
    async with asyncio.TaskGroup() as group:
        group.create_task(session.write(0, bytes([1]) * BLOCK))
        group.create_task(session.write(0, bytes([2]) * BLOCK))
    assert await session.read(0, 1) == bytes([2]) * BLOCK


async def test_commands_take_turns_on_the_connections_of_a_session(server):
    async with connect(server.url("disk0"), options=Options(connections=3)) as session:
        assert session.connections == (0, 1, 2)
        await session.capacity()
        contents = [os.urandom(BLOCK) for _ in range(30)]
        writes = [
            session.start(0, Write16(lba=lba, transfer_length=1), data_out=data) for lba, data in enumerate(contents)
        ]
        used = {session._machine.requests[task.tag].connection.cid for task in writes}
        assert used == {0, 1, 2}
        assert all([(await task).good for task in writes])
        assert await session.read(0, 30) == b"".join(contents)


async def test_no_more_connections_are_opened_than_the_target_takes(server):
    options = Options(connections=3, offers={"MaxConnections": "2"})
    async with connect(server.url("disk0"), options=options) as session:
        assert session.connections == (0, 1)
        with pytest.raises(NotLoggedIn):
            await session.join()
        await session.write(0, bytes(BLOCK))


async def test_connection_leaves_and_another_joins_while_the_session_goes_on(server):
    async with connect(server.url("disk0"), options=Options(connections=2)) as session:
        assert (await session.leave(0)).response == 0
        assert session.connections == (1,)
        await session.write(0, bytes([7]) * BLOCK)
        assert await session.join(server.url("disk0").split("/")[2], cid=40) == 40
        session.cid = 40
        assert await session.read(0, 1) == bytes([7]) * BLOCK
        session.cid = 0
        with pytest.raises(SessionEnded, match="no such connection"):
            await session.ping()
        with pytest.raises(ValueError, match="CID"):
            await session.join(cid=1 << 16)


async def test_task_is_aborted_on_its_own_connection(server):
    async with connect(server.url("disk0"), options=Options(connections=2)) as session:
        await session.capacity()
        session.cid = 1
        session.inject(Rule(DataOut, Drop()))
        task = session.start(0, Write16(transfer_length=2048), data_out=bytes(1 << 20))
        session.cid = 0
        assert (await session.abort(task)).response == 0
        with pytest.raises(Aborted):
            await task


async def test_wrong_data_sn_costs_the_command(session):
    await session.capacity()
    session.inject(Rule(DataOut, Renumber("data_sn", 1)))
    with pytest.raises(CommandFailed) as failed:
        await session.write(0, bytes(1 << 20))
    assert failed.value.outcome.sense_key is SenseKey.ABORTED_COMMAND
    await session.write(0, bytes(1 << 20))


async def test_corrupt_data_digest_ends_the_session(server):
    async with connect(server.url("disk0") + "?data_digest=crc32c") as session:
        await session.capacity()
        session.inject(Rule(ScsiCommand, CorruptDataDigest()))
        with pytest.raises(Rejected) as rejected:
            await session.write(0, bytes(BLOCK))
        assert rejected.value.reason == 2
        assert session.faults.pending == ()
        with pytest.raises(SessionEnded):
            await session.message()


LEVEL_1 = SERVED._replace(error_recovery_level=1)


def recovering(state: Path, served: Preferences = LEVEL_1) -> Configuration:
    return ram_configuration(state, SIZE)._replace(preferences=served)


async def test_session_outlives_wrong_digests_at_error_recovery_level_1(tmp_path):
    digests = ("CRC32C",)
    ours = Preferences(header_digest=digests, data_digest=digests, error_recovery_level=1)
    async with (
        iscsi_target.serve(recovering(tmp_path)) as server,
        connect(server.url("disk0"), options=Options(ours, recovery_timeout_s=0.01)) as session,
    ):
        await session.capacity()
        session.inject(Rule(ScsiCommand, CorruptDataDigest()), Rule(ScsiCommand, CorruptHeaderDigest(), nth=2))
        session.inject(Rule(ScsiCommand, Duplicate(), nth=3))
        for number in range(1, 5):
            await session.write(number, bytes([number]) * BLOCK)
        assert session.faults.pending == ()
        assert await session.read(1, 4) == b"".join(bytes([number]) * BLOCK for number in range(1, 5))
        assert not session.ended


async def test_wrong_snack_costs_nothing_but_a_reject(tmp_path):
    ours = Preferences(error_recovery_level=1)
    async with (
        iscsi_target.serve(recovering(tmp_path)) as server,
        connect(server.url("disk0"), options=Options(ours)) as session,
    ):
        session.inject(Rule(SnackRequest, Renumber("begin_run", 1 << 20)))
        await session.send_raw(SnackRequest(kind=1, initiator_task_tag=NO_TAG))
        assert isinstance((await session.receive_raw()).header, Reject)
        await session.ready()


async def test_cut_ends_the_session_and_nothing_was_done(server):
    async with connect(server.url("disk0")) as session:
        await session.capacity()
        session.inject(Rule(ScsiCommand, Cut(100)))
        with pytest.raises(SessionEnded):
            await session.write(0, bytes([1]) * BLOCK)
    async with connect(server.url("disk0")) as session:
        assert await session.read(0, 1) == bytes(BLOCK)


MORTAL = Preferences(error_recovery_level=2, default_time2wait=0, default_time2retain=20)


@pytest.mark.parametrize("kind", [Cut(20), Cut(60), Cut(48 + BLOCK + 10)])
@pytest.mark.parametrize("connections", [1, 2])
async def test_commands_outlive_their_connections(tmp_path, kind, connections):
    served = MORTAL._replace(max_connections=connections)
    async with (
        iscsi_target.serve(recovering(tmp_path, served)) as server,
        connect(server.url("disk0"), options=Options(MORTAL, connections=connections)) as session,
    ):
        await session.capacity()
        tsih = session.tsih
        for number in range(1, 4):
            session.inject(Rule(ScsiCommand, kind))
            await session.write(number, bytes([number]) * BLOCK)
            if len(session.connections) < connections:
                await session.join()
        session.inject(Rule(ScsiCommand, kind))
        assert await session.read(1, 3) == b"".join(bytes([number]) * BLOCK for number in range(1, 4))
        assert session.faults.pending == ()
        assert session.tsih == tsih


async def test_everything_that_is_open_outlives_the_only_connection(tmp_path):
    async with (
        iscsi_target.serve(recovering(tmp_path, MORTAL)) as server,
        connect(server.url("disk0"), options=Options(MORTAL)) as session,
    ):
        await session.capacity()
        tasks = [session.start(0, Write16(lba=lba, transfer_length=8), data_out=bytes(8 * BLOCK)) for lba in range(64)]
        session._channel.drop(0)
        tasks += [session.start(0, READY) for _ in range(4)]
        assert all([(await task).good for task in tasks])
        await session.ping(b"again")


async def test_session_ends_when_nothing_takes_over_in_time(tmp_path):
    brief = MORTAL._replace(default_time2retain=1)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(iscsi_target.serve(recovering(tmp_path, brief)))
        async with connect(server.url("disk0"), options=Options(brief)) as session:
            task = session.start(0, READY)
            session._channel.drop(0)
            await stack.aclose()
            with pytest.raises(SessionEnded, match="in time"):
                await task
            assert session.ended


async def test_lost_session_is_renewed_before_the_next_command_and_repeats_nothing(server):
    options = Options(connections=2, reconnect=Reconnect(tries=2, wait_s=0))
    async with connect(server.url("disk0"), options=options) as session:
        await session.write(0, bytes([1]) * BLOCK)
        first = session.tsih
        session.inject(Rule(ScsiCommand, Cut(100)))
        with pytest.raises(SessionEnded):
            await session.write(0, bytes([2]) * BLOCK)
        for link in session._channel._links.values():
            await link.closed.wait()
        assert await session.read(0, 1) == bytes([1]) * BLOCK
        assert session.connections == (0, 1)
        assert session.tsih != first
        assert session.faults.pending == ()
    with pytest.raises(SessionEnded):
        await session.read(0, 1)


async def test_session_is_not_renewed_unless_it_is_to_be(server):
    async with connect(server.url("disk0")) as session:
        await session.reconnect()
        session.inject(Rule(NopOut, Cut(10)))
        with pytest.raises(SessionEnded):
            await session.ping()
        with pytest.raises(SessionEnded):
            await session.reconnect()


async def test_renewal_gives_up_after_so_many_tries():
    options = Options(reconnect=Reconnect(tries=2, wait_s=0))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(iscsi_target.serve(ram=SIZE))
        async with connect(server.url("disk0"), options=options) as session:
            await stack.aclose()
            with pytest.raises(OSError, match="Connect"):
                await session.read(0, 1)


async def test_rules_may_concern_the_login_already(server):
    options = Options(rules=(Rule(TaskManagementRequest, Drop()),))
    async with connect(server.url("disk0"), options=options) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await session.manage(TaskManagement.ABORT_TASK_SET)
        assert (await session.manage(TaskManagement.ABORT_TASK_SET)).response == 0
