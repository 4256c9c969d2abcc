"""The data of the personalities: it is well-formed, says something, and lets nobody in whom a reservation shuts out."""

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import STRICT, InAction, OutAction, Personality, ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.reservations.rules import Rule

EACH = pytest.mark.parametrize("personality", PERSONALITIES.values(), ids=PERSONALITIES)
P = TargetPort("iqn.2026-01.org.example:p", 1)
A, B, C = (Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), P) for name in "abc")
ROWS = {row.name: row for row in TABLE}

# Commands that change no block, which some targets let pass. Source: SBC3r36 4.17
HARMLESS = {"START STOP UNIT", "PREVENT ALLOW MEDIUM REMOVAL", "GET LBA STATUS", "MODE SELECT(6)", "MODE SELECT(10)"}


def test_strict_comes_first_and_names_are_those_of_the_configuration():
    assert next(iter(PERSONALITIES)) == STRICT.name == "strict"
    assert set(PERSONALITIES) == {"strict", "lio", "comstar", "scst", "tgt", "spdk", "openfiler"}
    assert all(name == personality.name for name, personality in PERSONALITIES.items())


@EACH
def test_names_fit_into_inquiry_data(personality: Personality):
    assert len(personality.vendor) <= 8
    assert personality.product is None or len(personality.product) <= 16
    assert len(personality.revision) <= 4
    assert f"{personality.vendor}{personality.product}{personality.revision}".isascii()


@EACH
def test_answers_differ_from_those_of_the_rules(personality: Personality):
    for key, answer in personality.answers.items():
        rule = key if isinstance(key, Rule) else key[0]
        otherwise = rule.answer if isinstance(key, Rule) else personality.answers.get(rule, rule.answer)
        assert answer != otherwise, key


@EACH
def test_answers_are_for_service_actions_that_the_target_has(personality: Personality):
    for key in personality.answers:
        if not isinstance(key, Rule):
            assert key[1] in personality.out_actions | personality.in_actions


@EACH
def test_notices_differ_from_those_of_the_standard(personality: Personality):
    assert all(notice != STRICT.notice(event) for event, notice in personality.notices.items())


@EACH
def test_columns_are_of_commands_that_there_are_and_differ_from_the_tables(personality: Personality):
    for name, access in personality.access.items():
        assert access != ROWS[name].access, name


@EACH
def test_columns_let_nobody_write_who_is_shut_out(personality: Personality):
    """The law of every imitation: what a reservation forbids to a nexus that is not registered stays forbidden."""
    cause = Cause("RESERVE", A, 0.0)
    for kind in ReservationType:
        holder = None if kind.all_registrants else A
        state = Reservations({A: 1, B: 2}, Reservation(kind, holder, cause))
        for name, access in personality.access.items():
            if name in HARMLESS or Access.WRITE_EXCLUSIVE in ROWS[name].access:
                continue
            if name.startswith(("PERSISTENT RESERVE", "RESERVE", "RELEASE")):
                assert not state.permits(C, access) or state.permits(C, ROWS[name].access), name
                continue
            for nexus in (B, C):
                assert not state.permits(nexus, access) or state.permits(nexus, ROWS[name].access), name


@EACH
def test_allocation_lengths_may_be_refused_only_where_one_is_the_shortest(personality: Personality):
    refuses = personality.answer(Rule.ALLOCATION_SHORT) != STRICT.answer(Rule.ALLOCATION_SHORT)
    assert refuses == bool(personality.shortest_allocations)
    assert set(personality.shortest_allocations) <= personality.in_actions


@EACH
def test_what_is_not_imitated_is_told_with_the_reason(personality: Personality):
    assert bool(personality.not_imitated) == (personality is not STRICT)
    assert all(": " in reason for reason in personality.not_imitated)


def test_only_openfiler_has_no_persistent_reservations():
    without = [name for name, each in PERSONALITIES.items() if not each.out_actions and not each.in_actions]
    assert without == ["openfiler"]
    assert all(InAction.READ_KEYS in each.in_actions for each in PERSONALITIES.values() if each.in_actions)


def test_only_strict_replaces_lost_reservations():
    assert [name for name, each in PERSONALITIES.items() if each.replaces_lost] == ["strict"]
    assert STRICT.out_actions == set(OutAction)
