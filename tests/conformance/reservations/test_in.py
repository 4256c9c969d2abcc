"""The cases IN-01 to IN-22: PERSISTENT RESERVE IN. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.personality import InAction
from tests.conformance.reservations.world import K1, N1, N2, World


@pytest.mark.case("IN-01")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_in_01_read_keys_without_registrations_is_a_header():
    world = World()
    assert world.read(N1, InAction.READ_KEYS) == bytes(8)


@pytest.mark.case("IN-02")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_in_02_equal_keys_are_listed_for_every_nexus():
    world = World()
    world.register(N1, K1)
    world.register(N2, K1)
    assert world.keys() == [K1, K1]
    assert world.generation == 2
