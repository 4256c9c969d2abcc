"""Which attentions a nexus gets when it comes, goes and comes back. Nodes A and B; unit 0."""

from collections.abc import Callable

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.unit import nexus_table
from iscsi_target.scsi.unit.nexus_table import POWER_ON, NexusTable
from tests.unit.scsi.unit_bench import make_device

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)
READ, WRITE = find(b"\x28".ljust(16, b"\0")), find(b"\x2a".ljust(16, b"\0"))
MODE = AttentionCode.MODE_PARAMETERS_CHANGED


def told(table: NexusTable, nexus: Nexus) -> list[int]:
    codes = []
    while (code := table.take(nexus)) is not None:
        codes.append(code)
    return codes


@pytest.fixture
def table() -> NexusTable:
    table = NexusTable()
    table.attach(A)
    table.attach(B)
    return table


@pytest.mark.clause("SAM5r21 6.3.1")
def test_a_new_nexus_is_told_of_the_power_on(table: NexusTable):
    assert told(table, A) == [POWER_ON]
    assert told(table, A) == []


@pytest.mark.clause("SAM5r21 6.3.4")
def test_a_nexus_that_returns_is_told_of_its_loss(table: NexusTable):
    told(table, A)
    table.detach(A)
    assert A not in table
    table.attach(A)
    assert told(table, A) == [AttentionCode.I_T_NEXUS_LOSS_OCCURRED]


def test_a_nexus_that_left_before_it_was_told_of_the_power_on_is_told_when_it_returns(table: NexusTable):
    table.detach(A)
    table.attach(A)
    assert told(table, A) == [POWER_ON]


@pytest.mark.clause("SAM5r21 6.2")
def test_a_change_reaches_everybody_but_its_author(table: NexusTable):
    told(table, A), told(table, B)
    table.establish(MODE, except_nexus=A)
    assert told(table, A) == []
    assert told(table, B) == [MODE]


def test_a_condition_can_be_for_one_nexus(table: NexusTable):
    told(table, A), told(table, B)
    table.establish_for(B, MODE)
    assert told(table, A) == []
    assert told(table, B) == [MODE]


def test_a_withdrawn_condition_is_not_reported(table: NexusTable):
    table.establish_for(B, MODE)
    table.withdraw(B, MODE)
    assert MODE not in told(table, B)


def test_remembered_nexuses_are_bounded(table: NexusTable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nexus_table, "MAX_REMEMBERED", 1)
    for nexus in (A, B):
        told(table, nexus)
        table.detach(nexus)
    table.attach(A)
    table.attach(B)
    assert told(table, A) == [POWER_ON]
    assert told(table, B) == [AttentionCode.I_T_NEXUS_LOSS_OCCURRED]


# What a nexus may do


def admitted(table: NexusTable, nexus: Nexus) -> list[bytes]:
    return list(table.standing(nexus).admitted)


def test_what_was_admitted_is_found_by_the_first_byte(table: NexusTable):
    device = make_device()
    table.admit(A, READ, device)
    table.admit(A, WRITE, device)
    assert admitted(table, A) == [b"\x28", b"\x2a"]
    assert table.standing(A).epoch is device.epoch
    assert admitted(table, B) == []


def test_shortcut_is_made_once_in_an_epoch(table: NexusTable):
    device = make_device()
    table.admit(A, READ, device)
    made = table.standing(A).admitted[b"\x28"]
    table.admit(A, READ, device)
    assert table.standing(A).admitted[b"\x28"] is made
    device.stopped = False
    table.admit(A, READ, device)
    assert table.standing(A).admitted[b"\x28"] is not made


def test_admission_in_another_epoch_ends_those_before(table: NexusTable):
    table.admit(A, READ, make_device())
    table.admit(A, WRITE, other := make_device())
    assert admitted(table, A) == [b"\x2a"]
    assert table.standing(A).epoch is other.epoch


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.establish(MODE),
        lambda table: table.establish(MODE, except_nexus=B),
        lambda table: table.establish_for(A, MODE),
        lambda table: table.take(A),
        lambda table: table.withdraw(A, POWER_ON),
    ],
)
def test_any_change_of_the_attentions_ends_what_was_admitted(change: Callable[[NexusTable], None], table: NexusTable):
    standing = table.standing(A)
    table.admit(A, READ, make_device())
    change(table)
    assert standing.admitted == {}
    assert table.standing(A) is standing


def test_attention_of_others_leaves_what_was_admitted(table: NexusTable):
    table.admit(A, READ, make_device())
    table.establish(MODE, except_nexus=A)
    table.take(B)
    assert admitted(table, A) == [b"\x28"]


def test_nexus_that_is_not_attached_is_admitted_to_nothing(table: NexusTable):
    table.detach(A)
    table.admit(A, READ, make_device())
    table.attach(A)
    assert table.standing(A).admitted == {}


def test_nexus_that_returns_is_admitted_to_nothing(table: NexusTable):
    table.admit(A, READ, device := make_device())
    before = table.standing(A)
    table.detach(A)
    table.attach(A)
    assert table.standing(A) is not before
    assert table.standing(A).admitted == {}
    assert table.standing(A).epoch is not device.epoch
