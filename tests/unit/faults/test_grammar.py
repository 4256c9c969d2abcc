"""From the text of a rule to the rule."""

import pytest

from iscsi_target.faults.actions import Delay, Drop
from iscsi_target.faults.grammar import MAX_RULE_CHARACTERS, parse
from iscsi_target.faults.guide import GUIDE
from iscsi_target.faults.kinds import KINDS
from iscsi_target.faults.reading import RuleError
from iscsi_target.faults.rules import (
    UNLIMITED,
    CdbFieldIs,
    CidIs,
    CommandIs,
    HeaderFieldIs,
    InitiatorIs,
    LunIs,
    PortalGroupIs,
    Schedule,
    Span,
    TargetIs,
)


def test_a_rule_has_a_kind_conditions_a_schedule_and_an_action():
    rule = parse('on "SCSI command"  where opcode=WRITE(10), lun=0..7, nth=3: delay 2s')
    assert rule.kind is KINDS["scsi-command"]
    assert rule.conditions == (CommandIs(0x2A), LunIs(Span(0, 7)))
    assert rule.schedule == Schedule(nth=3, times=1)
    assert rule.action == Delay(2.0)
    assert rule.text == 'on "SCSI command" where opcode=WRITE(10), lun=0..7, nth=3: delay 2s'


@pytest.mark.parametrize("text", ["scsi-command", "SCSI Command", "scsi_command", '"scsi command"'])
def test_a_kind_may_be_written_in_several_ways(text: str):
    assert parse(f"on {text}: drop").kind.name == "scsi-command"


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_lost_and_is_in_the_guide(name: str):
    assert parse(f"on {name}: drop").action == Drop()
    assert name in GUIDE


@pytest.mark.parametrize(
    "text, condition",
    [
        ("initiator=iqn.2026-01.org.Example:*", InitiatorIs("iqn.2026-01.org.example:*")),
        ("target=*:node", TargetIs("*:node")),
        ("portal_group=2", PortalGroupIs(Span(2, 2))),
        ("cid=0", CidIs(Span(0, 0))),
        ("opcode=0x2a", CommandIs(0x2A)),
        ("opcode=write10", CommandIs(0x2A)),
        ("opcode=PERSISTENT RESERVE OUT", CommandIs(0x5F)),
        ('opcode="PERSISTENT RESERVE OUT, PREEMPT AND ABORT"', CommandIs(0x5F, 5)),
        ("opcode=READ CAPACITY(16)", CommandIs(0x9E, 0x10)),
        ("service_action=5", CdbFieldIs("service_action", Span(5, 5))),
        ("cdb.lba=0..1023", CdbFieldIs("lba", Span(0, 1023))),
        ("pdu.immediate=yes", HeaderFieldIs("immediate", Span(1, 1))),
    ],
)
def test_conditions(text: str, condition: object):
    assert parse(f"on scsi-command where {text}: drop").conditions == (condition,)


@pytest.mark.parametrize(
    "text, schedule",
    [
        ("nth=3", Schedule(nth=3, times=1)),
        ("nth=3, times=2", Schedule(nth=3, times=2)),
        ("every=10", Schedule(nth=10, every=10)),
        ("nth=1, every=10", Schedule(nth=1, every=10)),
        ("times=2", Schedule(times=2)),
        ("probability=0.25, seed=0x7", Schedule(probability=0.25, seed=7)),
        ("lun=0", Schedule()),
    ],
)
def test_schedules(text: str, schedule: Schedule):
    assert parse(f"on any where {text}: drop").schedule == schedule
    assert Schedule().times == UNLIMITED


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is not on KIND"),
        ("scsi-command: drop", "is not on KIND"),
        ("on scsi-command", "is not on KIND"),
        ("on scsi-comand: drop", "did you mean scsi-command"),
        ("on nothing-like-it: drop", "the kinds are nop-out"),
        ("on in where: drop", "is no kind of PDU"),
        ("on in where lun: drop", "KEY=VALUE"),
        ("on in where lun=: drop", "KEY=VALUE"),
        ("on in where lun=1 nth=2: drop", "lun=1 nth=2"),
        ("on in where lnu=1: drop", "did you mean lun"),
        ("on in where lun=1, lun=2: drop", "comes twice"),
        ("on in where opcode=WRIT(10): drop", "did you mean 'WRITE(10)'"),
        ("on in where opcode=0x100: drop", "0 to 0xff"),
        ("on nop-out where opcode=READ(10): drop", "belongs to no command"),
        ("on logout-request where cdb.lba=0: drop", "belongs to no command"),
        ("on scsi-command where opcode=READ(10), cdb.lbaa=0: drop", "did you mean lba"),
        ("on scsi-command where cdb.nothing_like_it=0: drop", "in the CDB of any command"),
        ("on scsi-command where opcode=0xc1, cdb.lba=0: drop", "nothing is known of that command"),
        ("on scsi-command where opcode=INQUIRY, cdb.lba=0: drop", "in the CDB of that command"),
        ("on scsi-command where opcode=READ(10), service_action=1: drop", "in the CDB of that command"),
        ("on scsi-command where pdu.lba=0: drop", "in the header of scsi-command"),
        ("on scsi-command where pdu.cdb=0: drop", "in the header of scsi-command"),
        ("on in where probability=0: drop", "above 0 and up to 1"),
        ("on in where probability=nan: drop", "above 0 and up to 1"),
        ("on in where nth=0: drop", "counts from 1"),
        ("on in where lun=0: explode", "the actions are drop"),
        ("on in" + " " * MAX_RULE_CHARACTERS + ": drop", "make several of it"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_a_remedy(text: str, said: str):
    with pytest.raises(RuleError) as wrong:
        parse(text)
    assert said in str(wrong.value)
    assert wrong.value.where
    assert wrong.value.remedy


def test_a_name_with_colons_is_a_value():
    rule = parse("on in where initiator=iqn.2026-01.org.example:a:b, lun=1: close")
    assert rule.conditions == (InitiatorIs("iqn.2026-01.org.example:a:b"), LunIs(Span(1, 1)))
