"""Persistent reservations and the SPC-2 reservation, as states.

A holds the persistent reservation, B is registered too, C is not; A2 is A through another target port.
"""

from itertools import combinations

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule, rule_of
from iscsi_target.scsi.status import ReservationConflict

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A, B, C = (Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), PORT) for name in "abc")
A2 = A._replace(target_port=PORT._replace(portal_group_tag=2))
KEY_A, KEY_B = 0xA, 0xB
CAUSE = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 1.5)
FREE = Spc2Reservation()


def by(nexus: Nexus) -> Cause:
    """RESERVE(6) of a nexus."""
    return Cause("RESERVE(6)", nexus, 1.0)


SINGLE = (ReservationType.WRITE_EXCLUSIVE, ReservationType.EXCLUSIVE_ACCESS)
REGISTRANTS_ONLY = (
    ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
)
ALL_REGISTRANTS = (ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS, ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS)


def reserved(kind, **changes):
    """A and B are registered, and A has reserved."""
    holder = None if kind in ALL_REGISTRANTS else A
    return Reservations({A: KEY_A, B: KEY_B}, Reservation(kind, holder, CAUSE), 3)._replace(**changes)


# Persistent reservations

# (type, registered) -> the columns that let somebody in who holds nothing
COLUMNS = {
    (ReservationType.WRITE_EXCLUSIVE, True): {
        Access.WRITE_EXCLUSIVE,
        Access.REGISTRANT,
        Access.REGISTERED_WRITE_EXCLUSIVE,
    },
    (ReservationType.WRITE_EXCLUSIVE, False): {Access.WRITE_EXCLUSIVE},
    (ReservationType.EXCLUSIVE_ACCESS, True): {Access.EXCLUSIVE_ACCESS, Access.REGISTRANT},
    (ReservationType.EXCLUSIVE_ACCESS, False): {Access.EXCLUSIVE_ACCESS},
    (ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, True): {Access.REGISTERED, Access.REGISTRANT},
    (ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, False): {Access.UNREGISTERED_WRITE_EXCLUSIVE},
    (ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, True): {Access.REGISTERED, Access.REGISTRANT},
    (ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, False): {Access.UNREGISTERED_EXCLUSIVE_ACCESS},
    (ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS, False): {Access.UNREGISTERED_WRITE_EXCLUSIVE},
    (ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS, False): {Access.UNREGISTERED_EXCLUSIVE_ACCESS},
}


@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", ReservationType)
def test_one_column_lets_in_whom_the_tables_let_in(kind):
    state = reserved(kind)
    for column in Access:
        assert state.permits(A, column)
        assert state.permits(B, column) == (kind in ALL_REGISTRANTS or column in COLUMNS[kind, True])
        for stranger in (C, A2):
            assert state.permits(stranger, column) == (column in COLUMNS[kind, False])


@pytest.mark.parametrize("kind", ReservationType)
def test_another_column_shuts_nobody_out(kind):
    state = reserved(kind)
    for one, other in combinations(Access, 2):
        for nexus in (A, B, C):
            assert state.permits(nexus, one | other) == (state.permits(nexus, one) or state.permits(nexus, other))


@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", ReservationType)
def test_the_classes_of_commands_are_those_of_the_tables(kind):
    state = reserved(kind)
    every_one_holds = kind in ALL_REGISTRANTS
    for nexus in (B, C):
        registered = nexus == B
        let_in = every_one_holds and registered
        assert state.permits(nexus, Access.ALWAYS)
        assert state.permits(nexus, Access.HOLDER) == let_in
        assert state.permits(nexus, Access.AS_WRITE) == (let_in or (registered and kind in REGISTRANTS_ONLY))
        assert state.permits(nexus, Access.AS_READ) == (
            not kind.exclusive_access or let_in or (registered and kind in REGISTRANTS_ONLY)
        )
        assert state.permits(nexus, Access.AS_REGISTRANT) == registered
    for access in (Access.HOLDER, Access.AS_WRITE, Access.AS_READ, Access.AS_REGISTRANT, Access.LOST):
        assert state.permits(A, access)


@pytest.mark.parametrize("access", [Access.HOLDER, *Access])
def test_without_a_reservation_nobody_is_shut_out(access):
    for state in (Reservations(), Reservations({A: KEY_A})):
        assert all(state.conflict(nexus, access) is None for nexus in (A, B, C))


@pytest.mark.parametrize(
    "kinds, nexus, access, rule",
    [
        (SINGLE, B, Access.AS_WRITE, Rule.HOLDER_ONLY),
        (SINGLE, C, Access.HOLDER, Rule.HOLDER_ONLY),
        (REGISTRANTS_ONLY, B, Access.HOLDER, Rule.RESERVED_BY_ANOTHER),
        (REGISTRANTS_ONLY + ALL_REGISTRANTS, C, Access.AS_WRITE, Rule.REGISTRANTS_ONLY),
        (tuple(ReservationType), C, Access.AS_REGISTRANT, Rule.NOT_REGISTERED),
    ],
)
def test_the_rule_says_whom_the_reservation_admits(kinds, nexus, access, rule):
    for kind in kinds:
        assert reserved(kind).conflict(nexus, access) is rule


@pytest.mark.clause("SPC4r37 5.13.10")
@pytest.mark.parametrize("kind", ReservationType)
def test_one_nexus_holds_a_reservation_or_every_registrant_does(kind):
    state = reserved(kind)
    assert [nexus for nexus in (A, B, C, A2) if state.holds(nexus)] == ([A, B] if kind in ALL_REGISTRANTS else [A])
    assert state.reservation_key == (0 if kind in ALL_REGISTRANTS else KEY_A)


def test_nobody_holds_what_there_is_not():
    state = Reservations({A: KEY_A})
    assert not state.holds(A)
    assert state.reservation_key == 0


@pytest.mark.clause("SPC4r37 5.13.3")
@pytest.mark.parametrize("kind", ReservationType)
def test_reserve_and_release_mean_nothing_to_holders_and_to_registrants_of_a_shared_reservation(kind):
    state = reserved(kind)
    assert [nexus for nexus in (A, B, C, A2) if state.exempts(nexus)] == ([A] if kind in SINGLE else [A, B])


def test_without_a_persistent_reservation_reserve_and_release_exempt_nobody():
    assert not Reservations({A: KEY_A}).exempts(A)


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("kind", ReservationType)
def test_with_aptpl_all_but_the_generation_is_stored(kind):
    state = reserved(kind, aptpl=True)
    assert state.stored == state._replace(generation=0)
    assert Reservations(generation=7, aptpl=True).stored == Reservations(aptpl=True)


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("kind", ReservationType)
def test_without_aptpl_nothing_is_stored(kind):
    assert reserved(kind).stored is None
    assert Reservations().stored is None


@pytest.mark.clause("SPC4r37 5.13.5.3.2")
def test_that_reservations_are_lost_is_stored():
    assert Reservations(generation=7, lost=True).stored == Reservations(lost=True)


def test_a_cause_says_which_command_of_whom_and_when():
    assert str(CAUSE) == (
        "PERSISTENT RESERVE OUT, RESERVE from iqn.2026-01.org.example:a,i,0x000000000000"
        " at 1970-01-01 00:00:01.500+00:00"
    )
    assert "from the operator at" in str(CAUSE._replace(nexus=OPERATOR))


# The SPC-2 reservation


def test_reserve_gives_the_reservation_to_the_nexus():
    assert FREE.reserve(by(A)).holder == A


def test_reserve_again_by_the_holder_is_good():
    assert FREE.reserve(by(A)).reserve(by(A)).holder == A


@pytest.mark.clause("SPC2r20 7.21")
def test_reserve_by_another_nexus_conflicts():
    with pytest.raises(ReservationConflict) as raised:
        FREE.reserve(by(A)).reserve(by(B))
    assert rule_of(raised.value) is Rule.SPC2_RESERVED


@pytest.mark.clause("SPC2r20 7.17")
def test_release_by_another_nexus_releases_nothing():
    assert FREE.reserve(by(A)).release(B).holder == A


def test_release_by_the_holder_frees():
    assert FREE.reserve(by(A)).release(A) == FREE
    assert FREE.release(A) == FREE


@pytest.mark.clause("SPC2r20 5.5.1")
def test_reservation_excludes_others_from_what_is_not_granted():
    held = FREE.reserve(by(A))
    assert held.permits(A, Access.AS_WRITE)
    assert not held.permits(B, Access.AS_WRITE)
    assert not held.permits(B, Access.ALWAYS)
    assert held.permits(B, Access.SPC2 | Access.ALWAYS)
    assert FREE.permits(B, Access.AS_WRITE)
    assert held.conflict(B, Access.ALWAYS) is Rule.SPC2_RESERVED
    assert held.conflict(A, Access.AS_WRITE) is None


def test_no_flag_grants_nothing():
    assert not FREE.reserve(by(A)).permits(B, Access(0))


def test_the_classes_of_commands_grant_more_and_more():
    assert Access.AS_WRITE in Access.AS_READ
    assert Access.AS_READ in Access.ALWAYS
    assert Access.SPC2 not in Access.ALWAYS
