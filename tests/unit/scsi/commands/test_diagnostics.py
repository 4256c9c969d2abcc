"""The self-test and the diagnostic pages of a unit; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.diagnostics import DiagnosticPage, ReceiveDiagnosticResults, SendDiagnostic
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.status import Status
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    Bytes,
    device,
    refusal,
    run,
)
from tests.unit.scsi.unit_bench import A, Bench

SELF_TEST = SendDiagnostic(selftest=True)
PAGES = bytes.fromhex("0000000100")


class Noting(Bytes):
    """A store that notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_at: list[tuple[int, int]] = []

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self.read_at.append((offset_bytes, length_bytes))
        return super().read(offset_bytes, length_bytes)


@pytest.mark.clause("SPC4r37 6.42")
@pytest.mark.parametrize("offline", [{}, {"devoffl": True}, {"unitoffl": True}])
def test_the_self_test_reads_the_end_of_the_medium(offline: dict[str, bool]):
    store = Noting()
    assert run(device(), SendDiagnostic(selftest=True, **offline), store=store).status is Status.GOOD
    assert store.read_at == [((CAPACITY - 1) * BLOCK, BLOCK)]


@pytest.mark.clause("SPC4r37 6.42")
@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.READ_FAILED, Fault.GONE])
def test_a_self_test_that_cannot_read_has_failed(fault: Fault):
    bench = Bench()
    test = bench.send(A, SELF_TEST)
    bench.perform(error=MediumError(fault))
    assert bench.sense(test) == (4, 0x3E03)


def test_a_unit_that_is_not_ready_is_not_tested():
    unit = device(removable=True)
    unit.stopped = True
    assert refusal(unit, SELF_TEST) == (2, 0x0402)
    unit.loaded = False
    assert refusal(unit, SELF_TEST) == (2, 0x3A00)


@pytest.mark.clause("SPC4r37 6.28")
@pytest.mark.clause("SPC4r37 7.2.4")
@pytest.mark.parametrize("asked", [{}, {"pcv": True}])
def test_the_list_of_pages_is_the_only_page(asked: dict[str, bool]):
    assert run(device(), ReceiveDiagnosticResults(allocation_length=99, **asked)).data_in == PAGES
    assert run(device(), ReceiveDiagnosticResults(allocation_length=2, **asked)).data_in == PAGES[:2]
    assert refusal(device(), ReceiveDiagnosticResults(pcv=True, page_code=0x40)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 6.42")
@pytest.mark.clause("SPC4r37 7.2.1")
def test_the_list_can_be_asked_for_by_a_page_too():
    cdb = SendDiagnostic(pf=True, parameter_list_length=DiagnosticPage.size)
    assert run(device(), cdb, offered=bytes(4)).status is Status.GOOD
    assert run(device(), SendDiagnostic()).status is Status.GOOD
    for wrong in (b"\x40\0\0\0", b"\0\1\0\0", b"\0\0\0\1"):
        assert refusal(device(), cdb, offered=wrong) == INVALID_FIELD_IN_LIST
    assert refusal(device(), cdb, offered=bytes(3)) == LIST_LENGTH_ERROR
    longer = SendDiagnostic(pf=True, parameter_list_length=9)
    assert refusal(device(), longer, offered=bytes(9)) == LIST_LENGTH_ERROR


@pytest.mark.parametrize(
    "cdb",
    [
        *(SendDiagnostic(self_test_code=code) for code in range(1, 8)),
        SendDiagnostic(selftest=True, self_test_code=1),
        SendDiagnostic(selftest=True, pf=True, parameter_list_length=4),
        SendDiagnostic(parameter_list_length=4),
    ],
)
def test_other_tests_and_pages_are_refused(cdb: SendDiagnostic):
    assert refusal(device(), cdb, offered=bytes(4)) == INVALID_FIELD_IN_CDB
