"""The timeline of a unit. Nodes A, B and C at port P; A and B are registered, C is not."""

import json

import pytest

from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_request import Request, Transition
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule, refusal
from iscsi_target.scsi.reservations.transitions import apply, overrule
from iscsi_target.scsi.state import timeline
from iscsi_target.scsi.state.timeline import Answered, Entry, Explanation, Timeline, entry_record
from iscsi_target.scsi.status import Status

P = TargetPort("iqn.2026-01.org.example:disks", 1)
A, B, C = (Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), P) for name in "abc")
K1, K2 = 0xA1, 0xB2
WERO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
RESERVE = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 100.0)
STATE = Reservations({A: K1, B: K2}, Reservation(WERO, A, RESERVE), generation=2)


def preempt(by: Nexus = B, time_s: float = 200.0) -> tuple[Cause, Transition]:
    """B takes the reservation over, which removes A."""
    cause = Cause("PERSISTENT RESERVE OUT, PREEMPT", by, time_s)
    request = Request(OutAction.PREEMPT, cause, K2, K1, type=WERO)
    return cause, apply(STATE, by, request, STRICT)


def register(state: Reservations, nexus: Nexus, time_s: float = 300.0) -> tuple[Cause, Transition]:
    cause = Cause("PERSISTENT RESERVE OUT, REGISTER", nexus, time_s)
    return cause, apply(state, nexus, Request(OutAction.REGISTER, cause, 0, K1), STRICT)


def conflict(found: Timeline, state: Reservations, nexus: Nexus = C, time_s: float = 400.0, name="WRITE(10)") -> Entry:
    rule = Rule.REGISTRANTS_ONLY
    return found.refused(Cause(name, nexus, time_s), rule, refusal(rule, rule.answer), state, Spc2Reservation())


def test_change_says_what_was_done_and_what_holds_then():
    found = Timeline()
    entry = found.changed(*preempt())
    assert found.entries() == [entry]
    assert (entry.number, entry.time_s, entry.nexus, entry.command) == (1, 200.0, B, "PERSISTENT RESERVE OUT, PREEMPT")
    assert entry.told == Answered(Status.GOOD)
    assert entry.explanation == Explanation(
        Rule.PREEMPTED, generation=3, type=WERO, holder=B, key=K2, made_by=preempt()[0]
    )


def test_conflict_of_a_fenced_node_names_the_preempt_that_removed_it():
    found = Timeline()
    cause, transition = preempt()
    found.changed(cause, transition)
    entry = conflict(found, transition.state, A)
    assert entry.told == Answered(Status.RESERVATION_CONFLICT)
    assert entry.explanation == Explanation(
        Rule.REGISTRANTS_ONLY, generation=3, type=WERO, holder=B, key=K2, made_by=cause, removed_by=cause
    )
    assert str(entry) == (
        "WRITE(10) from iqn.2026-01.org.example:a,i,0x000000000000: RESERVATION CONFLICT:"
        " the reservation admits only registered nexuses to this command (SPC4r37 5.13.1);"
        " Write Exclusive, registrants only, held by iqn.2026-01.org.example:b,i,0x000000000000 with key 0xb2;"
        " made by PERSISTENT RESERVE OUT, PREEMPT from iqn.2026-01.org.example:b,i,0x000000000000"
        " at 1970-01-01 00:03:20.000+00:00;"
        " registration removed by PERSISTENT RESERVE OUT, PREEMPT from iqn.2026-01.org.example:b,i,0x000000000000"
        " at 1970-01-01 00:03:20.000+00:00; generation 3"
    )


def test_who_was_never_removed_has_no_removal():
    found = Timeline()
    _, transition = preempt()
    found.changed(*preempt())
    assert conflict(found, transition.state, C).explanation.removed_by is None


def test_who_has_registered_again_has_no_removal():
    found = Timeline()
    _, transition = preempt()
    found.changed(*preempt())
    cause, again = register(transition.state, A)
    assert found.changed(cause, again).explanation.removed_by is None
    assert conflict(found, again.state, A).explanation.removed_by is None


def test_last_removal_counts():
    found = Timeline()
    found.changed(*preempt())
    later, transition = preempt(time_s=900.0)
    found.changed(later, transition)
    assert conflict(found, transition.state, A).explanation.removed_by == later


def test_who_unregistered_removed_itself():
    found = Timeline()
    cause = Cause("PERSISTENT RESERVE OUT, REGISTER", A, 200.0)
    transition = apply(STATE, A, Request(OutAction.REGISTER, cause, K1, 0), STRICT)
    entry = found.changed(cause, transition)
    assert entry.explanation == Explanation(Rule.UNREGISTERED, generation=3, removed_by=cause)


def test_operator_is_named_as_such():
    found = Timeline()
    cause = Cause("PERSISTENT RESERVE OUT, CLEAR", OPERATOR, 200.0)
    transition = overrule(STATE, Request(OutAction.CLEAR, cause))
    entry = found.changed(cause, transition)
    assert str(entry).startswith("PERSISTENT RESERVE OUT, CLEAR from the operator: GOOD: ")
    removed = conflict(found, transition.state, A)
    assert "registration removed by PERSISTENT RESERVE OUT, CLEAR from the operator at" in str(removed)
    assert entry_record(entry)["nexus"] is None


def test_conflict_with_an_spc_2_reservation_names_its_holder_and_command():
    rule = Rule.SPC2_RESERVED
    reserved = Spc2Reservation().reserve(Cause("RESERVE(6)", B, 3.0))
    cause = Cause("READ(10)", A, 5.0)
    entry = Timeline().refused(cause, rule, refusal(rule, rule.answer), Reservations(), reserved)
    assert entry.explanation.holder == B
    assert f"reserved by {B.initiator_port}; made by RESERVE(6) from {B.initiator_port} at 1970-01-01" in str(entry)


def test_refusal_with_sense_tells_it():
    found = Timeline()
    rule = Rule.RELEASE_MISMATCH
    cause = Cause("PERSISTENT RESERVE OUT, RELEASE", A, 5.0)
    entry = found.refused(cause, rule, refusal(rule, rule.answer), STATE, Spc2Reservation())
    assert entry.told.status is Status.CHECK_CONDITION
    assert entry.told.sense is not None
    assert (entry.told.sense.key, entry.told.sense.code) == (5, 0x2604)
    assert entry_record(entry)["sense"] == str(entry.told.sense)


def test_equal_refusals_one_after_the_other_are_one_entry():
    found = Timeline()
    *_, last = [conflict(found, STATE, time_s=time_s) for time_s in (1.0, 2.0, 3.0)]
    assert found.entries() == [last]
    assert (last.times, last.time_s, last.number) == (3, 3.0, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"nexus": Nexus(InitiatorPort("iqn.2026-01.org.example:d", bytes(6)), P)},
        {"name": "READ(10)"},
        {"state": STATE._replace(generation=3)},
        {"state": STATE._replace(reservation=Reservation(WERO, B, RESERVE))},
    ],
    ids=["nexus", "command", "generation", "holder"],
)
def test_refusals_that_differ_are_entries_of_their_own(other):
    found = Timeline()
    conflict(found, STATE)
    conflict(found, **{"state": STATE} | other)
    conflict(found, STATE)
    assert [entry.times for entry in found.entries()] == [1, 1, 1]


def test_change_in_between_does_not_hide_that_a_refusal_repeats():
    found = Timeline()
    conflict(found, STATE)
    changed = found.changed(*preempt())
    last = conflict(found, STATE)
    assert last.times == 2
    assert found.entries() == [changed, last]


def test_entries_of_both_kinds_stand_in_the_order_in_which_they_came():
    found = Timeline()
    made = [conflict(found, STATE, A), found.changed(*preempt()), conflict(found, STATE, B)]
    assert found.entries() == made
    assert [entry.number for entry in made] == [1, 2, 3]


def test_refusals_cannot_push_out_changes(monkeypatch):
    monkeypatch.setattr(timeline, "MAX_CHANGES", 3)
    monkeypatch.setattr(timeline, "MAX_REFUSALS", 4)
    found = Timeline()
    for number in range(10):
        found.changed(*preempt(time_s=number))
    for number in range(100):
        conflict(found, STATE, name=f"COMMAND {number}")
    kept = found.entries()
    assert [entry.time_s for entry in kept[:3]] == [7, 8, 9]
    assert [entry.command for entry in kept[3:]] == [f"COMMAND {number}" for number in range(96, 100)]


def test_what_is_kept_has_its_limits():
    found = Timeline()
    for number in range(timeline.MAX_REFUSALS + 10):
        conflict(found, STATE, name=f"COMMAND {number}")
        found.changed(*preempt())
    assert len(found.entries()) == timeline.MAX_CHANGES + timeline.MAX_REFUSALS


def test_oldest_removals_are_forgotten(monkeypatch):
    monkeypatch.setattr(timeline, "MAX_REMOVALS", 2)
    found = Timeline()
    cause, transition = preempt()
    for nexus in (A, B, A, C):
        found.changed(cause, transition._replace(removed=(nexus,)))
    empty = Reservations()
    removed = {nexus: conflict(found, empty, nexus).explanation.removed_by for nexus in (A, B, C)}
    assert removed == {A: cause, B: None, C: cause}


def test_entry_is_json_with_everything_that_it_says():
    found = Timeline()
    cause, transition = preempt()
    found.changed(cause, transition)
    conflict(found, transition.state, A)
    entry = conflict(found, transition.state, A, 500.0)
    record = entry_record(entry)
    assert json.loads(json.dumps(record)) == record
    a, b = (
        {"initiator": name, "isid": "000000000000", "target": P.name, "portal_group_tag": 1}
        for name in (A.initiator_port.name, B.initiator_port.name)
    )
    by = {"command": "PERSISTENT RESERVE OUT, PREEMPT", "time": 200.0, "nexus": b}
    assert record == {
        "number": 3,
        "time": 500.0,
        "nexus": a,
        "command": "WRITE(10)",
        "status": "RESERVATION_CONFLICT",
        "sense": None,
        "rule": "REGISTRANTS_ONLY",
        "clause": "SPC4r37 5.13.1",
        "generation": 3,
        "type": 5,
        "holder": b,
        "key": "0xb2",
        "made_by": by,
        "removed_by": by,
        "times": 2,
        "text": str(entry),
    }


def test_entry_without_a_reservation_is_json_too():
    found = Timeline()
    record = entry_record(conflict(found, Reservations()))
    assert json.loads(json.dumps(record)) == record
    assert (record["type"], record["holder"], record["made_by"], record["key"]) == (None, None, None, "0x0")


def test_all_registrants_reservation_has_no_holder_to_name():
    kind = ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS
    entry = conflict(Timeline(), STATE._replace(reservation=Reservation(kind, None, RESERVE)))
    assert "Exclusive Access, all registrants, held by all registrants; made by" in str(entry)
    assert entry_record(entry)["holder"] is None
