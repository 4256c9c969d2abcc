"""Handlers of the SPC commands that fit no other room: readiness, sense, LUNs, SPC-2 reservations."""

from collections.abc import Iterable

from iscsi_target.scsi.layouts.cdb import (
    Release6,
    Release10,
    ReportLuns,
    RequestSense,
    Reserve6,
    Reserve10,
    TestUnitReady,
)
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.layouts.pages import LunListHeader
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import Quirk
from iscsi_target.scsi.reservations.reservations import Cause
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import (
    InvalidFieldInCdb,
    MediumNotPresent,
    NotReadyInitialisingRequired,
    Sense,
    SenseKey,
)

NO_SENSE = Sense(SenseKey.NO_SENSE, 0x0000)

# SELECT REPORT. There are no well known, administrative or subsidiary logical units. Source: SPC4r37 6.33
ALL_LUNS = (0x00, 0x02, 0x11)
NO_LUNS = (0x01, 0x10)


def test_unit_ready(device: Device, cdb: TestUnitReady, call: Call) -> Done:
    """Answers TEST UNIT READY.

    A stopped unit with a removable medium is called ready here, though it answers 2/04/02 to everything that
    needs the medium: libiscsi 1.19.0 (StartStopUnit.NoLoej) takes anything but GOOD after START=0 for an eject.
    raises   MediumNotPresent, NotReadyInitialisingRequired; MediumFormatCorrupted after a format that has failed
    Source: SPC4r37 6.47
    """
    under_way = device.sanitization
    if not device.loaded and (under_way is None or under_way.is_failed_format):
        raise MediumNotPresent
    if under_way is not None:
        raise under_way.refusal
    if device.stopped and not device.features.removable:
        raise NotReadyInitialisingRequired
    return Done()


def request_sense(device: Device, cdb: RequestSense, call: Call) -> Done:
    """Answers REQUEST SENSE when no unit attention is pending: with what keeps the unit from being ready.

    Source: SPC4r37 6.39
    """
    sense = NO_SENSE
    if device.sanitization is not None:
        sense = device.sanitization.refusal.sense
    elif not device.loaded:
        sense = MediumNotPresent().sense
    elif device.stopped:
        sense = NotReadyInitialisingRequired().sense
    return sense_data(cdb, sense)


def sense_data(cdb: RequestSense, sense: Sense) -> Done:
    """Returns sense data as the parameter data of REQUEST SENSE, in the format that DESC asks for.

    Source: SPC4r37 6.39
    """
    data = sense.descriptor() if cdb.desc else sense.fixed()
    return Done(data[: cdb.allocation_length])


def report_luns(device: Device, cdb: ReportLuns, call: Call) -> Done:
    """Answers REPORT LUNS; raises as `lun_list`.

    Source: SPC4r37 6.33
    """
    return lun_list(cdb, call.luns)


def lun_list(cdb: ReportLuns, luns: Iterable[int]) -> Done:
    """Returns REPORT LUNS parameter data.

    luns     0..16383, ascending
    raises   InvalidFieldInCdb for a SELECT REPORT that is reserved, or that asks for the subsidiaries of a
             logical unit that has none because it is not administrative
    Source: SPC4r37 6.33, SAM5r21 4.7.7
    """
    if cdb.select_report in ALL_LUNS:
        entries = b"".join(map(pack_lun, luns))
    elif cdb.select_report in NO_LUNS:
        entries = b""
    else:
        raise InvalidFieldInCdb(ReportLuns, "select_report")
    header = LunListHeader(lun_list_length=len(entries))
    return Done((header.pack() + entries)[: cdb.allocation_length])


def reserve(device: Device, cdb: Reserve6 | Reserve10, call: Call) -> Done:
    """Answers RESERVE(6) and RESERVE(10): the whole unit, for the nexus that asks.

    raises   ReservationConflict when another nexus has reserved the unit, or any nexus is registered
    Source: SPC2r20 5.5.1, 7.21, SPC4r37 5.13.3
    """
    if not _is_exempt(device, call.nexus):
        name = "RESERVE(6)" if isinstance(cdb, Reserve6) else "RESERVE(10)"
        device.spc2_reservation = device.spc2_reservation.reserve(Cause(name, call.nexus, call.received_s))
    return Done()


def release(device: Device, cdb: Release6 | Release10, call: Call) -> Done:
    """Answers RELEASE(6) and RELEASE(10); what another nexus reserved stays, and that is no error.

    raises   ReservationConflict when any nexus is registered
    Source: SPC2r20 5.5.1, 7.17, SPC4r37 5.13.3
    """
    if not _is_exempt(device, call.nexus):
        device.spc2_reservation = device.spc2_reservation.release(call.nexus)
    return Done()


def _is_exempt(device: Device, nexus: Nexus) -> bool:
    """Returns True when RESERVE and RELEASE are to do nothing; raises ReservationConflict when they must not.

    Source: SPC4r37 5.13.3, SPC2r20 5.5.1
    """
    state = device.reservations
    by_creator = device.personality.has(Quirk.EXEMPTS_CREATOR)
    exempt = nexus == state.creator if by_creator else state.exempts(nexus)
    if device.personality.compatible_handling and exempt:
        return True
    if device.reservations.registrations:
        device.personality.mind(Rule.REGISTRATIONS_PRESENT)
    return False
