"""LOG SENSE and LOG SELECT; drawing in command_bench."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Read10, StartStopUnit, Write10
from iscsi_target.scsi.layouts.cdb import LogSelect, LogSense
from iscsi_target.scsi.layouts.log_pages import (
    LISTS,
    PAGES,
    RESETTABLE,
    Counter,
    LogPageHeader,
    LogParameterHeader,
    PageAndSubpageCode,
    PageKey,
)
from iscsi_target.scsi.operations import BLOCKS, Fault, MediumError, Outcome, WouldBlock
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Completed, Function
from iscsi_target.scsi.statistics import Statistics
from tests.unit.scsi.command_bench import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    device,
    refusal,
    run,
)
from tests.unit.scsi.unit_bench import BLOCK, A, B, Bench, Memory

CUMULATIVE, DEFAULT = 0b01, 0b11
EVERY_KEY = sorted([*PAGES, *LISTS])


def sense(unit: Device, key: PageKey, **fields: int) -> bytes:
    code, subpage = key
    cdb = LogSense(page_code=code, subpage_code=subpage, pc=CUMULATIVE, allocation_length=4096)
    return bytes(run(unit, cdb.replace(**fields)).data_in)


def values(data: bytes) -> dict[int, int]:
    """Returns the counters of a page by their codes."""
    found, at = {}, LogPageHeader.size
    while at < len(data):
        header = LogParameterHeader.unpack(data, at)
        at += LogParameterHeader.size
        found[header.parameter_code] = int.from_bytes(data[at : at + header.parameter_length])
        at += header.parameter_length
    return found


def page(key: PageKey, *parameters: bytes, **fields: int) -> bytes:
    code, subpage = key
    body = b"".join(parameters)
    made = LogPageHeader(spf=bool(subpage), page_code=code, subpage_code=subpage, page_length=len(body))
    return made.replace(**fields).pack() + body


COUNTER = LogParameterHeader(parameter_code=5, parameter_length=8).pack() + Counter(value=0).pack()


@pytest.mark.parametrize("key", EVERY_KEY)
def test_every_page_is_listed_and_says_its_length(key: PageKey):
    unit = device()
    listed = sense(unit, (0x00, 0xFF))
    starts = range(LogPageHeader.size, len(listed), PageAndSubpageCode.size)
    assert key in [tuple(PageAndSubpageCode.unpack(listed, at)) for at in starts]
    data = sense(unit, key)
    header = LogPageHeader.unpack(data)
    assert (header.page_code, header.subpage_code) == key
    assert header.page_length == len(data) - LogPageHeader.size > 0


@pytest.mark.parametrize("key", [(0x01, 0), (0x19, 0), (0x19, 0xFF), (0x03, 1), (0x3F, 0xFF)])
def test_page_that_there_is_not_is_refused(key: PageKey):
    cdb = LogSense(page_code=key[0], subpage_code=key[1], allocation_length=255)
    assert refusal(device(), cdb) == INVALID_FIELD_IN_CDB


def test_what_is_sent_is_cut_to_the_allocation_length():
    unit = device()
    whole = sense(unit, (0x03, 0))
    assert sense(unit, (0x03, 0), allocation_length=7) == whole[:7]
    assert sense(unit, (0x03, 0), allocation_length=0) == b""


@pytest.mark.parametrize(("pointer", "first"), [(0, 0), (3, 3), (6, 6)])
def test_pointer_says_with_which_parameter_it_begins(pointer: int, first: int):
    assert min(values(sense(device(), (0x03, 0), parameter_pointer=pointer))) == first


def test_pointer_between_two_parameters_means_the_next():
    assert list(values(sense(device(), (0x0E, 0), parameter_pointer=5))) == [6]


@pytest.mark.parametrize(("key", "pointer"), [((0x03, 0), 7), ((0x0E, 0), 0xFFFF), ((0x00, 0), 1), ((0x00, 0xFF), 1)])
def test_pointer_beyond_the_last_parameter_is_refused(key: PageKey, pointer: int):
    cdb = LogSense(page_code=key[0], subpage_code=key[1], parameter_pointer=pointer, allocation_length=255)
    assert refusal(device(), cdb) == INVALID_FIELD_IN_CDB


def test_nothing_is_saved():
    assert refusal(device(), LogSense(page_code=3, sp=True)) == INVALID_FIELD_IN_CDB
    for control in (0b00, 0b01):
        assert refusal(device(), LogSelect(sp=True, pc=control)) == INVALID_FIELD_IN_CDB
    run(device(), LogSelect(sp=True, pc=DEFAULT))


@pytest.mark.clause("SPC4r37 6.8")
@pytest.mark.parametrize(("control", "value"), [(0b00, 0), (0b01, 512), (0b10, 0), (0b11, 0)])
def test_page_control_chooses_the_values(control: int, value: int):
    unit = device()
    unit.statistics.read_bytes = 512
    assert values(sense(unit, (0x03, 0), pc=control))[5] == value


# LOG SELECT without parameters


def counted() -> Device:
    unit = device()
    unit.statistics.read_bytes = unit.statistics.written_bytes = unit.statistics.read_hits = unit.statistics.stops = 7
    return unit


@pytest.mark.clause("SPC4r37 6.7.1")
@pytest.mark.parametrize("fields", [{"pcr": True}, {"pc": DEFAULT}, {"pcr": True, "pc": 0b10, "sp": True}])
def test_all_counters_are_reset_and_others_told(fields: dict[str, int]):
    unit = counted()
    assert run(unit, LogSelect().replace(**fields)).attention == AttentionCode.LOG_PARAMETERS_CHANGED
    assert (unit.statistics.read_bytes, unit.statistics.written_bytes, unit.statistics.read_hits) == (0, 0, 0)
    assert unit.statistics.stops == 7


@pytest.mark.parametrize("fields", [{}, {"pc": 0b01}, {"pc": 0b10}, {"pc": 0b10, "sp": True}])
def test_without_an_order_to_reset_nothing_changes(fields: dict[str, int]):
    unit = counted()
    assert run(unit, LogSelect().replace(**fields)).attention is None
    assert unit.statistics.read_bytes == 7


@pytest.mark.clause("SPC4r37 6.7.2")
@pytest.mark.parametrize(
    ("key", "left"),
    [((0x03, 0), (0, 7)), ((0x03, 0xFF), (0, 7)), ((0x19, 0x20), (7, 0)), ((0x19, 0xFF), (7, 0))],
)
def test_one_page_is_reset_alone(key: PageKey, left: tuple[int, int]):
    unit = counted()
    run(unit, LogSelect(pcr=True, page_code=key[0], subpage_code=key[1]))
    assert (unit.statistics.read_bytes, unit.statistics.read_hits) == left
    assert unit.statistics.written_bytes == 7


@pytest.mark.parametrize("key", [(0x0E, 0), (0x2F, 0), (0x00, 0xFF)])
def test_page_that_has_nothing_to_reset_is_no_error(key: PageKey):
    assert run(counted(), LogSelect(pcr=True, page_code=key[0], subpage_code=key[1])).attention is None


@pytest.mark.parametrize("key", [(0x01, 0), (0x19, 0), (0x03, 0x20), (0x3F, 0xFF)])
def test_reset_of_a_page_that_there_is_not_is_refused(key: PageKey):
    assert refusal(device(), LogSelect(pcr=True, page_code=key[0], subpage_code=key[1])) == INVALID_FIELD_IN_CDB


# LOG SELECT with parameters


def select(data: bytes, **fields: int) -> LogSelect:
    return LogSelect(parameter_list_length=len(data)).replace(**fields)


@pytest.mark.parametrize("fields", [{"pcr": True}, {"page_code": 3}, {"subpage_code": 1}])
def test_parameters_go_with_no_reset_and_no_page_code(fields: dict[str, int]):
    data = page((0x03, 0))
    assert refusal(device(), select(data, **fields), offered=data) == INVALID_FIELD_IN_CDB


def test_pages_without_parameters_change_nothing():
    unit = counted()
    data = page((0x02, 0)) + page((0x03, 0)) + page((0x19, 0x20))
    assert run(unit, select(data), offered=data).attention is None
    assert unit.statistics.read_bytes == 7


WRONG_LISTS = {
    "a parameter that cannot be set": page((0x03, 0), COUNTER),
    "a parameter that is cut off": page((0x03, 0), COUNTER)[:-1],
    "a page that is cut off": page((0x03, 0))[:-1],
    "a page length that is too short for a parameter": page((0x03, 0), bytes(3)),
    "a page that there is not": page((0x04, 0)),
    "a list of pages": page((0x00, 0)),
    "a subpage that there is not": page((0x03, 0x20)),
    "SPF without a subpage": page((0x03, 0), spf=True),
    "a subpage without SPF": page((0x19, 0x20), spf=False),
    "pages in the wrong order": page((0x03, 0)) + page((0x02, 0)),
    "a page twice": page((0x03, 0)) * 2,
}


@pytest.mark.clause("SPC4r37 6.7")
@pytest.mark.clause("SPC4r37 7.3.2")
@pytest.mark.parametrize("data", WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_wrong_list_is_refused(data: bytes):
    assert refusal(device(), select(data), offered=data) == INVALID_FIELD_IN_LIST


def test_what_is_to_be_saved_is_refused():
    data = page((0x03, 0), ds=False)
    assert refusal(device(), select(data, sp=True), offered=data) == INVALID_FIELD_IN_LIST
    run(device(), select(data), offered=data)


def test_list_that_is_shorter_than_announced_is_refused():
    assert refusal(device(), select(page((0x03, 0))), offered=b"ab") == LIST_LENGTH_ERROR


# What is counted, at a whole unit


def test_what_the_medium_does_in_a_thread_is_counted_when_it_ends():
    bench = Bench()
    bench.read(A, 3)
    assert bench.device.statistics == Statistics()
    bench.perform()
    assert bench.device.statistics == Statistics(read_bytes=BLOCK, read_misses=1)
    bench.write(A, 3)
    bench.perform(error=MediumError(Fault.WRITE_FAILED))
    assert bench.device.statistics.failed_writes == 1


def test_what_is_done_at_once_is_a_hit():
    memory = Memory()
    bench = Bench(attempt=lambda operation: operation.perform(memory))
    bench.read(A, 3)
    bench.write(A, 3)
    expected = Statistics(read_bytes=BLOCK, read_hits=1, written_bytes=BLOCK, write_hits=1)
    assert bench.device.statistics == expected


def test_a_lane_counts_what_it_does_and_not_what_it_leaves():
    memory = Memory()
    instead: list[Outcome | MediumError | WouldBlock] = []
    bench = Bench(attempt=lambda operation: instead[0] if instead else operation.perform(memory))
    read, write = Read10(lba=3, transfer_length=1), Write10(lba=3, transfer_length=1)
    bench.read(A, 3)
    bench.write(A, 3)
    bench.device.statistics.reset(RESETTABLE)
    lane = bench.unit.lane(A)
    assert lane.answer(read.pack().ljust(16, b"\0"), BLOCK, b"") is not None
    assert lane.answer(write.pack().ljust(16, b"\0"), BLOCK, bytes(BLOCK)) is not None
    expected = Statistics(read_bytes=BLOCK, read_hits=1, written_bytes=BLOCK, write_hits=1)
    assert bench.device.statistics == expected
    for answer in (MediumError(Fault.READ_FAILED), BLOCKS):
        instead[:] = [answer]
        assert lane.answer(read.pack().ljust(16, b"\0"), BLOCK, b"") is None
    assert bench.device.statistics == expected


def test_resets_of_the_unit_set_counters_back_but_not_the_cycles():
    for function in (Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET):
        bench = Bench()
        bench.device.statistics = Statistics(read_bytes=1, flushes=2, stops=3)
        bench.manage(function, A)
        assert bench.device.statistics == Statistics(stops=3)


def test_cycles_are_counted_when_the_unit_stops_and_when_its_medium_is_ejected():
    unit = device(removable=True)
    for fields in ({"start": False}, {"start": False}, {"start": True}, {"start": False, "loej": True}):
        run(unit, StartStopUnit(**fields))
    assert (unit.statistics.stops, unit.statistics.unloads) == (2, 1)


def test_others_learn_that_counters_were_reset():
    bench = Bench()
    bench.device.statistics.read_bytes = 1
    bench.send(A, LogSelect(pcr=True))
    told = bench.send(B, LogSense(page_code=3, pc=CUMULATIVE, allocation_length=255))
    assert bench.sense(told) == (6, AttentionCode.LOG_PARAMETERS_CHANGED)
    own = bench.send(A, LogSense(page_code=3, pc=CUMULATIVE, allocation_length=255))
    end = bench.outcome(own)
    assert isinstance(end, Completed)
    assert values(bytes(end.data_in))[5] == 0
