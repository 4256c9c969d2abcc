"""What handlers see of a unit."""

from iscsi_target.scsi.reservations import Spc2Reservation
from tests.unit.scsi.unit_bench import make_device


def test_the_mode_pages_speak_through_the_device():
    device = make_device()
    assert device.write_cache == device.modes.write_cache
    assert device.descriptor_sense is False
    assert device.software_write_protect is False
    assert device.task_aborted_status is False
    assert device.qerr == 0


def test_a_new_device_is_loaded_started_and_free():
    device = make_device()
    assert device.loaded
    assert not device.stopped
    assert device.preventing == set()
    assert device.spc2_reservation == Spc2Reservation()
    assert make_device().preventing is not device.preventing
