"""Which PDUs a rule is about, and when it fires."""

import pytest

from iscsi_target.faults.grammar import parse
from iscsi_target.faults.rules import Schedule, Subject
from iscsi_target.iscsi.requests import NopOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from iscsi_target.scsi.layouts.block_cdb import Read16, Write10
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut

WRITE = Subject(
    ScsiCommand(write=True, cmd_sn=7),
    initiator="iqn.2026-01.org.example:a",
    target="iqn.2026-01.org.example:node",
    portal_group=2,
    cid=1,
    lun=3,
    cdb=Write10(lba=100, transfer_length=8).pack().ljust(16, b"\0"),
    data_bytes=4096,
)
STRANGER = Subject(ScsiCommand())
PREEMPT = WRITE._replace(cdb=PersistentReserveOut(service_action=4).pack().ljust(16, b"\0"))


@pytest.mark.parametrize(
    "conditions",
    [
        "initiator=iqn.2026-01.org.example:a",
        "initiator=*:?",
        "target=*node",
        "portal_group=1..2",
        "cid=1",
        "lun=3",
        "opcode=WRITE(10)",
        "cdb.lba=100",
        "cdb.lba=0..100, cdb.transfer_length=8",
        "pdu.write=yes, pdu.cmd_sn=7",
    ],
)
def test_a_rule_is_about_what_fits_all_its_conditions(conditions: str):
    rule = parse(f"on scsi-command where {conditions}: drop")
    assert rule.concerns(WRITE)
    assert not rule.concerns(STRANGER)


@pytest.mark.parametrize(
    "conditions",
    [
        "initiator=*:b",
        "target=*other",
        "portal_group=1",
        "cid=0",
        "lun=0..2",
        "opcode=WRITE(16)",
        "cdb.lba=101",
        "cdb.lba=100, cdb.transfer_length=9",
        "cdb.parameter_list_length=0",
        "pdu.read=yes",
    ],
)
def test_a_rule_is_not_about_what_misses_one(conditions: str):
    assert not parse(f"on scsi-command where {conditions}: drop").concerns(WRITE)


def test_a_name_that_is_not_known_fits_no_pattern():
    assert not parse("on any where initiator=*: drop").concerns(STRANGER)
    assert not parse("on any where target=*: drop").concerns(STRANGER)


def test_a_rule_is_about_its_kind_alone():
    assert not parse("on nop-out: drop").concerns(WRITE)
    assert parse("on in: drop").concerns(Subject(NopOut()))
    assert not parse("on out: drop").concerns(Subject(NopOut()))
    assert parse("on any: drop").concerns(Subject(DataIn()))


def test_a_service_action_is_one_of_an_operation_code():
    assert parse('on any where opcode="PERSISTENT RESERVE OUT, PREEMPT": drop').concerns(PREEMPT)
    assert parse("on any where opcode=PERSISTENT RESERVE OUT, service_action=4: drop").concerns(PREEMPT)
    assert not parse('on any where opcode="PERSISTENT RESERVE OUT, CLEAR": drop').concerns(PREEMPT)


def test_an_operation_code_that_nobody_knows_can_be_meant():
    odd = WRITE._replace(cdb=b"\xc1" + bytes(15))
    assert parse("on any where opcode=0xc1: drop").concerns(odd)
    assert not parse("on any where cdb.lba=0: drop").concerns(odd)


def test_a_cdb_that_is_too_short_has_no_fields():
    cut = WRITE._replace(cdb=Read16(lba=0).pack()[:10])
    assert not parse("on any where cdb.lba=0: drop").concerns(cut)


def test_only_what_there_is_can_be_corrupted():
    plain = Subject(DataIn(), data_bytes=512)
    digested = plain._replace(header_digest=True, data_digest=True)
    assert parse("on data-in: corrupt data at 511").concerns(plain)
    assert not parse("on data-in: corrupt data at 512").concerns(plain)
    for part in ("header-digest", "data-digest"):
        assert not parse(f"on data-in: corrupt {part}").concerns(plain)
        assert parse(f"on data-in: corrupt {part}").concerns(digested)
    empty = Subject(ScsiResponse(), header_digest=True, data_digest=True)
    assert not parse("on scsi-response: corrupt data-digest").concerns(empty)


def fires(schedule: Schedule, count: int = 20) -> list[int]:
    fired: list[int] = []
    for matched in range(1, count + 1):
        if schedule.is_due(matched, len(fired)):
            fired.append(matched)
    return fired


def test_schedules():
    assert fires(Schedule(), 3) == [1, 2, 3]
    assert fires(Schedule(nth=3, times=1)) == [3]
    assert fires(Schedule(nth=3, times=2)) == [3, 4]
    assert fires(Schedule(nth=5, every=5)) == [5, 10, 15, 20]
    assert fires(Schedule(times=2)) == [1, 2]


def test_chance_is_the_same_for_the_same_seed_and_as_often_as_wanted():
    some = fires(Schedule(probability=0.1, seed=7), 10_000)
    assert some == fires(Schedule(probability=0.1, seed=7), 10_000)
    assert some != fires(Schedule(probability=0.1, seed=8), 10_000)
    assert 850 < len(some) < 1150
