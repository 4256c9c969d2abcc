"""What single steps of the hot path cost; tools/bench --micro measures them, the test suite runs each once.

They go through what other modules use, never through internals, so that they measure any shape of the inside:

    bytes --> PduReader.feed --> Target.received --> LogicalUnit.accept ... finished --> bytes
"""

from collections.abc import Callable, Iterable
from itertools import count, islice

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from iscsi_target.iscsi.framing import PduReader, frame
from iscsi_target.iscsi.requests import DataOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn
from iscsi_target.scsi.layouts.block_cdb import Read16
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import PORT, READY, A, Bench

BATCH = 32
LARGE_BYTES = 1 << 18
REGISTRANTS = 64
REGISTER, RESERVE = 0, 1
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5


def joined(buffers: Iterable[bytes | bytearray | memoryview]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def read_command(tag: int, cmd_sn: int) -> ScsiCommand:
    cdb = Read16(lba=tag % 512, transfer_length=8).pack()
    command = ScsiCommand(final=True, read=True, attributes=1, expected_data_transfer_length=4096, cdb=cdb)
    return command.replace(initiator_task_tag=tag, cmd_sn=cmd_sn)


def test_a_command_is_unpacked(benchmark: BenchmarkFixture) -> None:
    command = read_command(1, 1)
    assert benchmark(ScsiCommand.unpack, command.pack()) == command


def test_a_response_is_made_and_packed(benchmark: BenchmarkFixture) -> None:
    def pack(stat_sn: int) -> bytes:
        return DataIn(final=True, status_present=True, initiator_task_tag=7, stat_sn=stat_sn, exp_cmd_sn=9).pack()

    assert len(benchmark(pack, 5)) == DataIn.size


def full_feature_reader() -> PduReader:
    reader = PduReader()
    reader.enter_full_feature_phase(limit_bytes=LARGE_BYTES, header_digest=False, data_digest=False)
    return reader


def feeding(data: bytes) -> Callable[[], int]:
    """Returns what feeds a reader and counts the bytes of data that come out; views of them must not be kept."""
    reader = full_feature_reader()
    return lambda: sum(1 + len(pdu.data) for pdu in reader.feed(data))


def test_a_batch_of_commands_is_framed(benchmark: BenchmarkFixture) -> None:
    batch = b"".join(read_command(tag, tag).pack() for tag in range(BATCH))
    assert benchmark(feeding(batch)) == BATCH


def test_a_large_data_out_is_framed(benchmark: BenchmarkFixture) -> None:
    data_out = joined(frame(DataOut(final=True, initiator_task_tag=1), bytes(LARGE_BYTES)))
    assert benchmark(feeding(data_out)) == 1 + LARGE_BYTES


def test_a_batch_of_reads_passes_the_target(benchmark: BenchmarkFixture) -> None:
    """From the bytes of 32 READ(16) to those of their Data-In, with a medium in memory."""
    host = Lab().session()
    numbers = count(host.cmd_sn)

    def batch() -> tuple[tuple[bytes], dict[str, object]]:
        host.received.clear()
        return (b"".join(read_command(number, number).pack() for number in islice(numbers, BATCH)),), {}

    benchmark.pedantic(host.feed, setup=batch, rounds=50)
    assert len(host.received) == BATCH


@pytest.mark.parametrize("registrants", [0, REGISTRANTS])
def test_a_read_passes_a_unit(benchmark: BenchmarkFixture, registrants: int) -> None:
    """Without a reservation, and under one of registrants only that others hold."""
    bench = Bench()
    others = (InitiatorPort(f"iqn.2026-01.org.example:{number}", bytes(6)) for number in range(1, REGISTRANTS))
    nexuses = [A, *(Nexus(port, PORT) for port in others)]
    for key, nexus in enumerate(nexuses[:registrants], 1):
        reserve_out(bench, nexus, REGISTER, BasicParameterList(service_action_reservation_key=key))
    if registrants:
        reserve_out(bench, nexuses[1], RESERVE, BasicParameterList(reservation_key=2))
    assert len(bench.device.reservations.registrations) == registrants

    def read() -> None:
        bench.actions.clear()
        bench.read(A, 1)
        bench.perform()

    benchmark(read)
    assert not bench.at_medium


def reserve_out(bench: Bench, nexus: Nexus, service_action: int, parameters: BasicParameterList) -> None:
    if nexus is not A and service_action == REGISTER:
        bench.unit.attach(nexus)
        bench.send(nexus, READY)
    kind = WRITE_EXCLUSIVE_REGISTRANTS_ONLY if service_action == RESERVE else 0
    cdb = PersistentReserveOut(service_action=service_action, type=kind, parameter_list_length=parameters.size)
    task = bench.send(nexus, cdb, expects_data=True)
    bench.give(task, parameters.pack())


def test_a_session_logs_in(benchmark: BenchmarkFixture) -> None:
    """From the bytes of a Login Request to those of its response, and what ends the session again."""
    lab = Lab()

    def log_in() -> Host:
        host = lab.connect()
        host.login(offers=[("HeaderDigest", "None,CRC32C"), ("MaxRecvDataSegmentLength", "262144")])
        host.cut()
        return host

    assert benchmark(log_in).logged_in
