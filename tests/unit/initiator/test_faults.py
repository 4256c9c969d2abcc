"""Rules that spoil outgoing PDUs."""

import pytest

from iscsi_target.initiator.faults import (
    CorruptDataDigest,
    CorruptHeaderDigest,
    Cut,
    Delay,
    Drop,
    Duplicate,
    FaultScript,
    Outgoing,
    Renumber,
    Rule,
)
from iscsi_target.iscsi.errors import StreamLost
from iscsi_target.iscsi.framing import PduReader
from iscsi_target.iscsi.requests import DataOut, LogoutRequest, NopOut, ScsiCommand

DIGESTS = {"header_digest": True, "data_digest": True}
PLAIN = {"header_digest": False, "data_digest": False}


def command(number: int) -> Outgoing:
    return Outgoing(ScsiCommand(cmd_sn=number), b"data")


def numbers(script: FaultScript, *sent: Outgoing) -> list[int]:
    """The CmdSN of what goes out instead."""
    return [found.header.cmd_sn for one in sent for found in script.apply(one, **DIGESTS)]  # type: ignore[union-attr]  # all have one


def four(*rules: Rule) -> list[int]:
    return numbers(FaultScript(rules), *map(command, range(1, 5)))


def test_without_rules_everything_goes_out_as_it_is():
    assert four() == [1, 2, 3, 4]


def test_nth_pdu_of_its_kind_suffers_and_no_other():
    rules = Rule(ScsiCommand, Drop(), nth=2)
    assert numbers(FaultScript([rules]), Outgoing(NopOut(cmd_sn=9)), *map(command, range(1, 4))) == [9, 1, 3]


def test_rule_may_concern_several_pdus():
    assert four(Rule(ScsiCommand, Drop(), nth=2, times=2)) == [1, 4]


def test_first_rule_counts_and_the_others_count_on():
    assert four(Rule(ScsiCommand, Drop()), Rule(ScsiCommand, Duplicate(), nth=2)) == [2, 2, 3, 4]


def test_delayed_pdu_goes_out_after_so_many_later_ones():
    assert four(Rule(ScsiCommand, Delay(2))) == [2, 3, 1, 4]


def test_several_delayed_pdus_keep_their_distances():
    assert four(Rule(ScsiCommand, Delay(1), times=2)) == [1, 3, 2, 4]


def test_duplicate_goes_out_twice():
    assert four(Rule(ScsiCommand, Duplicate(), nth=4)) == [1, 2, 3, 4, 4]


def test_number_is_wrong_by_so_many_and_wraps():
    assert four(Rule(ScsiCommand, Renumber("cmd_sn", -2))) == [0xFFFFFFFF, 2, 3, 4]


@pytest.mark.parametrize(
    ("fault", "message"), [(CorruptHeaderDigest(), "header digest"), (CorruptDataDigest(), "data")]
)
def test_corrupt_digest_is_noticed_by_a_reader(fault, message: str):
    script = FaultScript([Rule(ScsiCommand, fault)])
    [spoilt] = script.apply(command(1), **DIGESTS)
    reader = PduReader()
    reader.enter_full_feature_phase(limit_bytes=8192, **DIGESTS)
    with pytest.raises(StreamLost, match=message):
        list(reader.feed(b"".join(spoilt.pack(**DIGESTS))))
    assert not script.pending


def test_corruption_waits_for_a_pdu_that_has_the_digest():
    rules = (Rule(ScsiCommand, CorruptHeaderDigest()), Rule(ScsiCommand, CorruptDataDigest()))
    script = FaultScript(rules)
    assert list(script.apply(command(1), **PLAIN)) == [command(1)]
    assert list(script.pending) == list(rules)
    list(script.apply(Outgoing(ScsiCommand()), **DIGESTS))
    assert list(script.pending) == list(rules[1:])  # there was no data


def test_cut_pdu_ends_after_so_many_bytes():
    [cut] = FaultScript([Rule(ScsiCommand, Cut(50))]).apply(command(1), **PLAIN)
    assert b"".join(cut.pack(**PLAIN)) == b"".join(command(1).pack(**PLAIN))[:50]


def test_pending_rules_are_those_that_have_not_done_all():
    script = FaultScript([Rule(ScsiCommand, Drop(), times=2)])
    numbers(script, command(1))
    assert len(script.pending) == 1
    numbers(script, command(2))
    assert not script.pending


def test_rule_for_a_field_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="DataOut has no number 'cmd_sn'"):
        FaultScript([Rule(DataOut, Renumber("cmd_sn", 1))])


@pytest.mark.parametrize("field", ["lun", "final", "data_segment_length"])
def test_rule_for_what_is_no_number_or_counted_by_itself_is_refused(field: str):
    with pytest.raises(ValueError, match=f"has no number {field!r}"):
        FaultScript([Rule(ScsiCommand, Renumber(field, 1))])


def test_number_wraps_at_its_own_width():
    [outgoing] = FaultScript([Rule(LogoutRequest, Renumber("cid", 2))]).apply(
        Outgoing(LogoutRequest(cid=0xFFFF)), **PLAIN
    )
    assert outgoing.header == LogoutRequest(cid=1)


@pytest.mark.parametrize("fault", [Cut(-1), Delay(-1)])
def test_rule_that_counts_backwards_is_refused(fault):
    with pytest.raises(ValueError, match="from 0"):
        FaultScript([Rule(ScsiCommand, fault)])


@pytest.mark.parametrize("rule", [Rule(DataOut, Drop(), nth=0), Rule(DataOut, Drop(), times=0)])
def test_rule_that_counts_from_zero_is_refused(rule: Rule):
    with pytest.raises(ValueError, match="from 1"):
        FaultScript([rule])


def test_connections_share_the_rules_but_not_what_is_held_back():
    script = FaultScript([Rule(ScsiCommand, Delay(1))])
    one, other = script.for_connection(), script.for_connection()
    assert list(one.apply(command(1), **PLAIN)) == []
    assert list(other.apply(command(2), **PLAIN)) == [command(2)]
    assert list(one.apply(command(3), **PLAIN)) == [command(3), command(1)]
    assert not script.pending
