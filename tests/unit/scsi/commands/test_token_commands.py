"""POPULATE TOKEN and WRITE USING TOKEN at a whole unit; drawing in unit_bench."""

import pytest

from iscsi_target.scsi.layouts.block_cdb import StartStopUnit, Write10
from iscsi_target.scsi.layouts.cdb import Reserve6
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.token_cdb import PopulateToken, WriteUsingToken
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.operations import Fault, MediumError, Unmap, WriteSame
from iscsi_target.scsi.state.copy_log import CopyState
from iscsi_target.scsi.state.rod_tokens import (
    DEFAULT_INACTIVITY_S,
    MAX_INACTIVITY_S,
    MAX_RANGES,
    MAX_ROD_BYTES,
    MAX_TOKENS,
    MAX_TOKENS_PER_NEXUS,
    RodToken,
)
from iscsi_target.scsi.status import Status
from tests.unit.scsi.token_bench import ZERO_TOKEN, TokenBench, populate_list, write_list
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, PORT, A, B, Memory, give_page

POPULATE, WRITE = pytest.mark.clause("SBC3r36 5.7"), pytest.mark.clause("SBC3r36 5.46")
INVALID_FIELD, LENGTH_ERROR, OUT_OF_RANGE, TOO_MANY = (5, 0x2600), (5, 0x1A00), (5, 0x2100), (5, 0x2608)
WRITE_11 = Write10(lba=11, transfer_length=1).pack().ljust(16, b"\0")
EXPIRED, CANCELLED, DELETED, UNKNOWN = (5, 0x2307), (5, 0x2308), (5, 0x2309), (5, 0x2304)


@POPULATE
@WRITE
@pytest.mark.clause("SBC3r36 4.28")
def test_what_a_token_represents_is_written_in_its_order():
    bench = TokenBench()
    token = bench.token([(10, 3), (2, 2)])
    task = bench.use(token, [(100, 1), (200, 4)])
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.block(100) + bench.block(200, 4) == bench.was(10, 3) + bench.was(2, 2)
    status, sense, _ = bench.told(2)
    assert (status.copy_operation_status, status.response_to_service_action) == (CopyState.DONE, 0x11)
    assert (status.transfer_count_units, status.transfer_count, sense) == (0xF1, 5, b"")


@WRITE
def test_a_part_of_it_is_written_from_an_offset():
    bench = TokenBench()
    token = bench.token([(10, 3), (2, 2)])
    bench.use(token, [(100, 2)], offset_into_rod=2)
    bench.end()
    assert bench.block(100, 2) == bench.was(12) + bench.was(2)
    assert bench.block(102) == bench.was(102)


@WRITE
@pytest.mark.clause("SBC3r36 4.28.2")
def test_a_token_that_has_less_than_is_wanted_ends_with_an_underrun():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    task = bench.use(token, [(100, 2), (200, 4)])
    bench.end()
    assert bench.sense(task) == (0xA, 0x0D04)
    assert bench.block(100, 2) + bench.block(200) == bench.was(10, 3)
    assert bench.block(201) == bench.was(201)
    status, sense, _ = bench.told(2)
    assert (status.copy_operation_status, status.transfer_count) == (CopyState.PARTIAL, 3)
    assert status.extended_copy_completion_status == Status.CHECK_CONDITION
    assert sense[3:7] == (3).to_bytes(4), "the transfer count is the INFORMATION"


@pytest.mark.clause("SBC3r36 4.28.4")
def test_the_zero_token_writes_zeros():
    bench = TokenBench()
    task = bench.use(ZERO_TOKEN, [(5, 2), (9, 1)])
    assert isinstance(next(iter(bench.at_medium.values())), Unmap)
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.block(5, 5) == bytes(2 * BLOCK) + bench.was(7, 2) + bytes(BLOCK)


def test_a_thick_unit_writes_the_zeros():
    bench = TokenBench()
    bench.device.features = bench.device.features._replace(thin=False)
    bench.use(ZERO_TOKEN, [(5, 2)])
    assert isinstance(next(iter(bench.at_medium.values())), WriteSame)
    bench.end()
    assert bench.block(4, 4) == bench.was(4) + bytes(2 * BLOCK) + bench.was(7)


def test_without_a_list_nothing_is_done():
    bench = TokenBench()
    for cdb in (PopulateToken(list_identifier=9), WriteUsingToken(list_identifier=9)):
        assert bench.status(bench.send(A, cdb)) is Status.GOOD
    assert bench.device.copies.find(A, 9) is None


def test_ranges_without_blocks_are_nothing():
    bench = TokenBench()
    token = bench.token([(BLOCKS + 5, 0), (3, 1)])
    assert bench.status(bench.use(token, [(100, 0)])) is Status.GOOD
    assert bench.block(100) == bench.was(100)


# What is refused

WRONG_POPULATE_LISTS = {
    "a data length that is too short": (populate_list([(0, 1)], populate_token_data_length=29), INVALID_FIELD),
    "no descriptor": (populate_list([(0, 1)], block_device_range_descriptor_length=15), INVALID_FIELD),
    "too many descriptors": (populate_list([(each, 1) for each in range(MAX_RANGES + 1)]), TOO_MANY),
    "one block twice": (populate_list([(4, 3), (0, 2), (6, 1)]), INVALID_FIELD),
    "a block that is not there": (populate_list([(BLOCKS - 1, 2)]), OUT_OF_RANGE),
    "too much": (populate_list([(0, MAX_ROD_BYTES // BLOCK + 1)]), INVALID_FIELD),
    "a timeout that is too long": (populate_list([(0, 1)], inactivity_timeout=MAX_INACTIVITY_S + 1), INVALID_FIELD),
    "access upon reference": (populate_list([(0, 1)], rtv=True, rod_type=0x0001_0000), INVALID_FIELD),
    "a persistent copy": (populate_list([(0, 1)], rtv=True, rod_type=0x0080_0002), INVALID_FIELD),
    "a header that is cut off": (populate_list([])[:-1], LENGTH_ERROR),
    "descriptors that are all cut off": (populate_list([(0, 1)])[:-1], LENGTH_ERROR),
}


@pytest.mark.clause("SBC3r36 5.7.2")
@pytest.mark.clause("SBC3r36 5.7.3")
@pytest.mark.parametrize(("data", "sense"), WRONG_POPULATE_LISTS.values(), ids=WRONG_POPULATE_LISTS)
def test_a_wrong_list_makes_no_token(data: bytes, sense: tuple[int, int]):
    bench = TokenBench()
    task = bench.send(A, PopulateToken(list_identifier=1, parameter_list_length=len(data)), expects_data=True)
    bench.give(task, data)
    assert bench.sense(task) == sense
    assert not bench.device.tokens.live
    assert bench.device.copies.find(A, 1) is None


@POPULATE
def test_descriptors_that_are_cut_off_are_ignored_and_so_is_a_type_that_is_not_valid():
    bench = TokenBench()
    data = populate_list([(3, 1), (5, 1)], rod_type=0x0001_0000)[:-1]
    task = bench.send(A, PopulateToken(list_identifier=1, parameter_list_length=len(data)), expects_data=True)
    bench.give(task, data)
    assert bench.status(task) is Status.GOOD
    assert bench.told(1)[0].transfer_count == 1


TOKEN = ZERO_TOKEN
WRONG_WRITE_LISTS = {
    "another data length": (write_list(TOKEN, [(0, 1)], write_using_token_data_length=551), INVALID_FIELD),
    "no descriptor": (write_list(TOKEN, [(0, 1)])[:534] + b"\0\x0f" + bytes(16), INVALID_FIELD),
    "too many descriptors": (write_list(TOKEN, [(each, 1) for each in range(MAX_RANGES + 1)]), TOO_MANY),
    "one block twice": (write_list(TOKEN, [(4, 3), (6, 1)]), INVALID_FIELD),
    "a block that is not there": (write_list(TOKEN, [(BLOCKS, 1)]), OUT_OF_RANGE),
    "too much": (write_list(TOKEN, [(0, MAX_ROD_BYTES // BLOCK + 1)]), INVALID_FIELD),
    "a list that is cut off": (write_list(TOKEN, [(0, 1), (2, 1)])[:-1], LENGTH_ERROR),
    "a token of another length": (write_list(TOKEN[:6] + b"\1\xf9" + TOKEN[8:], [(0, 1)]), (5, 0x230A)),
    "a token of another type": (write_list(b"\0\1\0\0" + TOKEN[4:], [(0, 1)]), (5, 0x2301)),
    "a token of elsewhere": (write_list(b"\0\x80\0\1" + TOKEN[4:], [(0, 1)]), (5, 0x2302)),
}


@pytest.mark.clause("SBC3r36 5.46.2")
@pytest.mark.clause("SBC3r36 5.7.3")
@pytest.mark.parametrize(("data", "sense"), WRONG_WRITE_LISTS.values(), ids=WRONG_WRITE_LISTS)
def test_a_wrong_list_writes_nothing(data: bytes, sense: tuple[int, int]):
    bench = TokenBench()
    task = bench.send(A, WriteUsingToken(list_identifier=1, parameter_list_length=len(data)), expects_data=True)
    bench.give(task, data)
    assert bench.sense(task) == sense
    assert not bench.at_medium
    assert bench.device.copies.find(A, 1) is None


def test_lists_are_fetched_only_as_far_as_they_may_be():
    bench = TokenBench()
    bench.send(A, PopulateToken(parameter_list_length=1 << 31), expects_data=True)
    bench.send(A, WriteUsingToken(parameter_list_length=1 << 31), expects_data=True)
    assert [each.length_bytes for each in bench.collects] == [16 + 17 * 16, 536 + 17 * 16]


@pytest.mark.clause("SPC4r37 5.17.6.5.2.3")
def test_a_token_is_taken_as_a_whole_or_not_at_all():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    for place in (8, 48, 300, 511):
        wrong = bytearray(token)
        wrong[place] ^= 1
        assert bench.sense(bench.use(bytes(wrong), [(100, 3)])) == UNKNOWN
    assert not bench.at_medium


@WRITE
def test_an_offset_beyond_what_it_represents_is_refused():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    assert bench.sense(bench.use(token, [(100, 1)], offset_into_rod=3)) == INVALID_FIELD


def test_a_token_is_not_written_to_what_it_represents():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    assert bench.sense(bench.use(token, [(12, 1)], offset_into_rod=0)) == (5, 0x2300)
    assert bench.block(12) == bench.was(12)


@pytest.mark.clause("SPC4r37 5.17.4.2")
def test_an_identifier_that_is_in_use_is_refused():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    first = bench.use(token, [(100, 3)])
    assert bench.sense(bench.use(token, [(200, 3)])) == (5, 0x0016)
    assert bench.sense(bench.populate([(1, 1)], identifier=2)) == (5, 0x0016)
    assert bench.status(bench.use(token, [(200, 3)], B)) is None, "identifiers are those of a nexus"
    bench.end()
    assert bench.status(first) is Status.GOOD
    assert bench.status(bench.populate([(1, 1)], identifier=2)) is Status.GOOD


# How long a token is valid


@pytest.mark.clause("SPC4r37 5.17.6.2.3.3")
@pytest.mark.parametrize("lba", [9, 10, 12, 13])
def test_a_write_to_what_it_represents_cancels_a_token(lba: int):
    bench = TokenBench()
    token = bench.token([(0, 1), (10, 3)])
    bench.write(B, lba)
    bench.end()
    task = bench.use(token, [(100, 3)])
    bench.end()
    if 10 <= lba < 13:
        assert bench.sense(task) == CANCELLED
    else:
        assert bench.status(task) is Status.GOOD


def test_a_write_that_waits_for_its_turn_has_cancelled_it_already():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.write(B, 11)
    assert bench.sense(bench.use(token, [(100, 3)])) == CANCELLED


def test_a_write_before_it_is_part_of_the_point_in_time():
    bench = TokenBench()
    bench.write(B, 11, 0x77)
    token = bench.token([(11, 1)])
    task = bench.use(token, [(100, 1)])
    assert list(bench.at_medium) != [], "the write is at the medium, and the read waits for it"
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.block(100) == b"\x77" * BLOCK


def test_a_write_on_the_short_way_cancels_too():
    memory = Memory()
    bench = TokenBench(attempt=lambda operation: operation.perform(memory))
    lane = bench.unit.lane(A)
    bench.write(A, 11)
    assert lane.answer(WRITE_11, BLOCK, bytes(BLOCK)) == b""
    token = bench.token([(10, 3)])
    assert lane.answer(WRITE_11, BLOCK, bytes(BLOCK)) is None, "what was found out before does not hold any more"
    bench.write(A, 50)
    assert lane.answer(WRITE_11, BLOCK, bytes(BLOCK)) is None, "no write goes the short way while there is a token"
    bench.write(A, 11)
    assert bench.sense(bench.use(token, [(100, 3)])) == CANCELLED
    bench.write(A, 11)
    assert lane.answer(WRITE_11, BLOCK, bytes(BLOCK)) == b"", "but then it does"


@pytest.mark.clause("SPC4r37 5.17.6.7")
def test_a_token_that_nobody_uses_expires():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.now_s = DEFAULT_INACTIVITY_S - 1
    assert bench.status(bench.use(token, [(100, 3)])) is None
    bench.end()
    bench.now_s = 2 * DEFAULT_INACTIVITY_S - 2
    assert bench.status(bench.use(token, [(100, 3)])) is None
    bench.end()
    bench.now_s += DEFAULT_INACTIVITY_S
    assert bench.sense(bench.use(token, [(100, 3)])) == EXPIRED
    bench.write(B, 500)
    assert not bench.device.tokens.live, "and is in nobody's way any more"
    assert bench.sense(bench.use(token, [(100, 3)])) == EXPIRED


@POPULATE
def test_the_timeout_is_what_was_asked_for():
    bench = TokenBench()
    token = bench.token([(10, 3)], inactivity_timeout=5)
    bench.now_s = 5
    assert bench.sense(bench.use(token, [(100, 3)])) == EXPIRED


@WRITE
def test_a_token_is_given_up_at_the_end():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    task = bench.use(token, [(100, 3)], del_tkn=True)
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.sense(bench.use(token, [(100, 3)])) == DELETED
    assert bench.status(bench.use(ZERO_TOKEN, [(100, 3)], B, del_tkn=True)) is None


@pytest.mark.clause("SPC4r37 5.17.6.7")
def test_the_oldest_token_of_a_nexus_makes_room():
    bench = TokenBench()
    tokens = [bench.token([(number, 1)]) for number in range(MAX_TOKENS_PER_NEXUS + 1)]
    assert bench.sense(bench.use(tokens[0], [(100, 1)])) == CANCELLED
    assert bench.status(bench.use(tokens[1], [(100, 1)])) is None


@pytest.mark.clause("SPC4r37 5.17.6.2.1")
def test_a_unit_has_so_many_tokens():
    bench = TokenBench()
    for number in range(MAX_TOKENS):
        nexus = Nexus(InitiatorPort("iqn.2026-01.org.example:n", (number // MAX_TOKENS_PER_NEXUS).to_bytes(6)), PORT)
        raw = number.to_bytes(512)
        bench.device.tokens = bench.device.tokens.with_new(RodToken(raw, nexus, (), 60, 0, 0))
    assert bench.sense(bench.populate([(1, 1)])) == (5, 0x550C)
    assert bench.device.copies.find(A, 1) is None


@pytest.mark.parametrize("how", ["eject", "close", "shrink"])
def test_another_medium_cancels_all_tokens(how: str):
    bench = TokenBench(removable=True)
    token = bench.token([(10, 3)])
    match how:
        case "eject":
            bench.record(bench.unit.unload())
            bench.unit.load()
        case "close":
            bench.unit.halt()
        case _:
            bench.unit.resize(BLOCKS - 1)
    bench.attention(A)
    bench.attention(A)
    assert bench.sense(bench.use(token, [(100, 3)])) == CANCELLED


def test_a_unit_that_grows_keeps_its_tokens():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.unit.resize(BLOCKS + 8)
    assert bench.attention(A) == 0x2A09
    assert bench.status(bench.use(token, [(100, 3)])) is None


# Copies in the background


@pytest.mark.clause("SPC4r37 5.17.4.3")
def test_with_immed_the_command_is_over_at_once():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    task = bench.use(token, [(100, 3)], immed=True)
    assert bench.status(task) is Status.GOOD
    status = bench.told(2)[0]
    assert (status.copy_operation_status, status.transfer_count) == (CopyState.BACKGROUND, 0)
    assert status.estimated_status_update_delay < 1000
    bench.end()
    assert bench.told(2)[0].copy_operation_status == CopyState.DONE
    assert bench.block(100, 3) == bench.was(10, 3)
    assert bench.unit.open_tasks == 0


@pytest.mark.clause("SPC4r37 5.17.4.3")
def test_what_fails_in_the_background_is_told_to_who_asks():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.use(token, [(100, 3)], immed=True)
    bench.perform()
    bench.perform(error=MediumError(Fault.NO_SPACE))
    status, sense, _ = bench.told(2)
    assert (status.copy_operation_status, status.transfer_count) == (CopyState.FAILED, 0)
    assert (sense[2] & 0xF, sense[12:14]) == (7, b"\x27\x07")
    assert bench.attention(A) is None, "there are no deferred errors"
    assert bench.unit.open_tasks == 0


def test_a_source_that_cannot_be_read_aborts_the_copy():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    task = bench.use(token, [(100, 3)])
    bench.perform(error=MediumError(Fault.READ_FAILED))
    assert bench.sense(task) == (0xA, 0x0D01)


def test_commands_are_not_ordered_behind_what_goes_on_in_the_background():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.use(token, [(100, 3)], immed=True)
    assert bench.status(bench.read(B, 100)) is None
    bench.perform(list(bench.at_medium)[-1])
    assert len(bench.at_medium) == 1


def test_a_copy_goes_no_further_when_the_medium_is_ejected():
    for immed in (False, True):
        bench = TokenBench(removable=True)
        token = bench.token([(10, 3)])
        bench.use(token, [(100, 3)], immed=immed)
        bench.record(bench.unit.unload())
        bench.unit.load()
        bench.end()
        assert bench.block(100, 3) == bench.was(100, 3)
        assert bench.unit.open_tasks == 0


def test_a_copy_ends_when_the_initiator_ejects_the_medium():
    bench = TokenBench(removable=True)
    token = bench.token([(10, 1), (20, 1)])
    task = bench.use(token, [(100, 2)])
    bench.perform()
    assert bench.status(bench.send(B, StartStopUnit(loej=True, no_flush=True))) is Status.GOOD
    bench.end()
    assert bench.sense(task) == (2, 0x3A00)
    assert bench.block(100, 2) == bench.was(100, 2)


# Who may, and what is in the way


def test_reservations_of_others_keep_writing_away_and_spc_2_ones_everything():
    bench = TokenBench()
    token = bench.token([(10, 3)])
    bench.send(B, Reserve6())
    assert bench.status(bench.populate([(1, 1)])) is Status.RESERVATION_CONFLICT
    assert bench.status(bench.use(token, [(100, 3)])) is Status.RESERVATION_CONFLICT


def test_a_unit_that_must_not_be_written_still_has_tokens():
    bench = TokenBench()
    give_page(bench, ControlPage(swp=True))
    token = bench.token([(10, 3)])
    assert bench.sense(bench.use(token, [(100, 3)])) == (7, 0x2702)


def test_two_copies_do_not_wait_for_each_other():
    bench = TokenBench()
    one, other = bench.token([(10, 3)]), bench.token([(20, 3)], identifier=3)
    first = bench.use(one, [(100, 3)], identifier=4)
    second = bench.use(other, [(200, 3)], identifier=5)
    assert len(bench.at_medium) == 2
    bench.end()
    assert [bench.status(task) for task in (first, second)] == [Status.GOOD] * 2
