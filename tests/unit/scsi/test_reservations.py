"""The SPC-2 reservation. Nodes A and B; unit 0."""

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations import Spc2Reservation
from iscsi_target.scsi.status import ReservationConflict

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)
FREE = Spc2Reservation()


def test_reserve_gives_the_reservation_to_the_nexus():
    assert FREE.reserve(A).holder == A


def test_reserve_again_by_the_holder_is_good():
    assert FREE.reserve(A).reserve(A).holder == A


@pytest.mark.clause("SPC2r20 7.21")
def test_reserve_by_another_nexus_conflicts():
    with pytest.raises(ReservationConflict):
        FREE.reserve(A).reserve(B)


@pytest.mark.clause("SPC2r20 7.17")
def test_release_by_another_nexus_releases_nothing():
    assert FREE.reserve(A).release(B).holder == A


def test_release_by_the_holder_frees():
    assert FREE.reserve(A).release(A) == FREE
    assert FREE.release(A) == FREE


@pytest.mark.clause("SPC2r20 5.5.1")
def test_reservation_excludes_others_from_what_is_not_granted():
    held = FREE.reserve(A)
    assert held.permits(A, Access.AS_WRITE)
    assert not held.permits(B, Access.AS_WRITE)
    assert not held.permits(B, Access.ALWAYS)
    assert held.permits(B, Access.SPC2 | Access.ALWAYS)
    assert FREE.permits(B, Access.AS_WRITE)


def test_no_flag_grants_nothing():
    assert not FREE.reserve(A).permits(B, Access(0))


def test_the_classes_of_commands_grant_more_and_more():
    assert Access.AS_WRITE in Access.AS_READ
    assert Access.AS_READ in Access.ALWAYS
    assert Access.SPC2 not in Access.ALWAYS
