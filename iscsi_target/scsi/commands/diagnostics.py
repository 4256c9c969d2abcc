"""SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS: the default self-test, and the list of diagnostic pages.

The self-test reads the last block, as a unit can whose medium is there and whole. It is the only test, and its outcome
is the status; so there is no log of results. The only page is the list of pages, whichever way it is asked for.

Source: SPC4r37 6.28, 6.42, 7.2
"""

from iscsi_target.scsi.operations import Verify
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Work
from iscsi_target.scsi.status import (
    CheckCondition,
    InvalidFieldInCdb,
    InvalidFieldInParameterList,
    MediumNotPresent,
    NotReadyInitialisingRequired,
    ParameterListLengthError,
    Sense,
    SenseKey,
)
from iscsi_target.wire.layout import B3, B7, U8, U16, Bit, Layout

SUPPORTED_PAGES = 0x00


class LogicalUnitFailedSelfTest(CheckCondition):
    """The self-test found something that fails: 4/3E/03.

    Source: SPC4r37 6.42
    """

    def __init__(self) -> None:
        super().__init__(Sense(SenseKey.HARDWARE_ERROR, 0x3E03))


class SendDiagnostic(Layout):
    """SEND DIAGNOSTIC.

    Source: SPC4r37 6.42
    """

    operation_code: U8 = 0x1D
    self_test_code: B3 = 0
    pf: Bit = False
    _1: Bit = False
    selftest: Bit = False
    devoffl: Bit = False
    unitoffl: Bit = False
    _2: U8 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class ReceiveDiagnosticResults(Layout):
    """RECEIVE DIAGNOSTIC RESULTS.

    Source: SPC4r37 6.28
    """

    operation_code: U8 = 0x1C
    _1: B7 = 0
    pcv: Bit = False
    page_code: U8 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class DiagnosticPage(Layout):
    """What every diagnostic page begins with.

    Source: SPC4r37 7.2.1
    """

    page_code: U8 = 0
    page_specific: U8 = 0
    page_length: U16 = 0


def receive_diagnostic_results(device: Device, cdb: ReceiveDiagnosticResults, call: Call) -> Done:
    """Answers RECEIVE DIAGNOSTIC RESULTS.

    raises   InvalidFieldInCdb for a page that there is not
    Source: SPC4r37 6.28, 7.2.4
    """
    if cdb.pcv and cdb.page_code != SUPPORTED_PAGES:
        raise InvalidFieldInCdb(ReceiveDiagnosticResults, "page_code")
    pages = bytes([SUPPORTED_PAGES])
    header = DiagnosticPage(page_code=SUPPORTED_PAGES, page_length=len(pages))
    return Done((header.pack() + pages)[: cdb.allocation_length])


def wanted_by_send_diagnostic(device: Device, cdb: SendDiagnostic) -> int:
    """Returns the bytes of Data-Out that SEND DIAGNOSTIC asks for: no more than the one page that there is has."""
    return min(cdb.parameter_list_length, DiagnosticPage.size)


def send_diagnostic(device: Device, cdb: SendDiagnostic, call: Call) -> Done | Work:
    """Answers SEND DIAGNOSTIC; the test disturbs nobody, whatever DEVOFFL and UNITOFFL permit.

    raises   InvalidFieldInCdb for another self-test, or for pages together with a test or not in the standard's form;
             ParameterListLengthError and InvalidFieldInParameterList for pages that there are not
    Source: SPC4r37 6.42
    """
    if cdb.self_test_code:
        raise InvalidFieldInCdb(SendDiagnostic, "self_test_code")
    if cdb.parameter_list_length and (cdb.selftest or not cdb.pf):
        raise InvalidFieldInCdb(SendDiagnostic, "parameter_list_length")
    if cdb.selftest:
        return _test(device)
    if cdb.parameter_list_length:
        _check_page(cdb, bytes(call.data_out))
    return Done()


def _test(device: Device) -> Work:
    if not device.loaded:
        raise MediumNotPresent
    if device.stopped:
        raise NotReadyInitialisingRequired
    block_bytes, _, blocks = device.geometry
    return Work(Verify((blocks - 1) * block_bytes, block_bytes), failure=LogicalUnitFailedSelfTest)


def _check_page(cdb: SendDiagnostic, parameters: bytes) -> None:
    if cdb.parameter_list_length != DiagnosticPage.size or len(parameters) < DiagnosticPage.size:
        raise ParameterListLengthError
    page = DiagnosticPage.unpack(parameters)
    for name in DiagnosticPage.fields:
        if getattr(page, name):
            raise InvalidFieldInParameterList(DiagnosticPage.location(name).byte)
