"""Which commands get into the timeline of reservations. Nodes A and B; port P; one unit (see command_bench)."""

import pytest

from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.reservations.rules import ConflictByRule, Rule
from iscsi_target.scsi.state.task import Noted, Task
from iscsi_target.scsi.status import InvalidFieldInCdb, StatusError, UnitAttention
from iscsi_target.scsi.unit.chronicle import Chronicle
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.command_bench import A, device

OUT, READ = PersistentReserveOut(), Read10()


@pytest.fixture
def chronicle() -> Chronicle:
    return Chronicle(device())


def refused(chronicle: Chronicle, cdb: Layout, error: StatusError) -> Noted | None:
    return chronicle.refused(Task(A, 1, cdb.pack(), received_s=5.0), find(cdb.pack()), error)


def test_a_conflict_of_any_command_is_an_entry(chronicle: Chronicle):
    noted = refused(chronicle, READ, ConflictByRule(Rule.HOLDER_ONLY))
    assert noted is not None
    assert (noted.entry.explanation.rule, noted.entry.nexus, noted.entry.time_s) == (Rule.HOLDER_ONLY, A, 5.0)
    assert chronicle.entries() == [noted.entry]


@pytest.mark.parametrize("error", [InvalidFieldInCdb(Read10, "lba"), UnitAttention(0x2900)])
def test_another_refusal_is_none(chronicle: Chronicle, error: StatusError):
    assert refused(chronicle, READ, error) is None
    assert chronicle.entries() == []


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (InvalidFieldInCdb(PersistentReserveOut, "type"), Rule.CDB_INVALID),
        (UnitAttention(0x2900), Rule.ATTENTION_FIRST),
    ],
)
def test_every_refusal_of_persistent_reserve_out_is_one(chronicle: Chronicle, error: StatusError, rule: Rule):
    noted = refused(chronicle, OUT, error)
    assert noted is not None
    assert noted.entry.explanation.rule is rule
