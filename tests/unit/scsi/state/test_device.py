"""What handlers see of a unit."""

from dataclasses import fields

import pytest

from iscsi_target.scsi.reservations.reservations import Spc2Reservation
from iscsi_target.scsi.state.device import Device
from tests.unit.scsi.unit_bench import A, make_device


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


@pytest.mark.parametrize("name", [each.name for each in fields(Device) if each.name != "epoch"])
def test_each_assignment_begins_an_epoch(name: str):
    device = make_device()
    epochs = [device.epoch]
    for _ in range(3):
        setattr(device, name, getattr(device, name))
        epochs.append(device.epoch)
    assert len({id(epoch) for epoch in epochs}) == 4


def test_epoch_stays_while_nothing_is_assigned():
    device = make_device()
    epoch = device.epoch
    device.kept()
    device.spc2_excludes(A)
    device.preventing.add(A)
    assert device.epoch is epoch


def test_devices_have_epochs_of_their_own():
    assert make_device().epoch is not make_device().epoch
