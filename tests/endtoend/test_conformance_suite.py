"""Every test of the installed libiscsi conformance suite that concerns what is built passes in the lab, and none hangs.

A skip is a failure here: it says that the target lacks what the test is for.
"""

from collections.abc import Iterator

import pytest

from tests.conftest import Tool
from tools.lab import lab, run_lab
from tools.served import ServedTarget
from tools.suite import Verdict, installed_tests

SUITES = (
    "CompareAndWrite",
    "ExtendedCopy",
    "GetLBAStatus",
    "Inquiry",
    "Mandatory",
    "ModeSense6",
    "MultipathIO",
    "NoMedia",
    "OrWrite",
    "Prefetch10",
    "Prefetch16",
    "PreventAllow",
    "PrinReadKeys",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "ProutClear",
    "ProutPreempt",
    "ProutRegister",
    "ProutReserve",
    "Read10",
    "Read12",
    "Read16",
    "Read6",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReceiveCopyResults",
    "ReportSupportedOpcodes",
    "Reserve6",
    "Sanitize",
    "StartStopUnit",
    "TestUnitReady",
    "Unmap",
    "Verify10",
    "Verify12",
    "Verify16",
    "Write10",
    "Write12",
    "Write16",
    "WriteAtomic16",
    "WriteSame10",
    "WriteSame16",
    "WriteVerify10",
    "WriteVerify12",
    "WriteVerify16",
    "iSCSIResiduals",
    "iSCSITMF",
    "iSCSIcmdsn",
    "iSCSIdatasn",
)
# Suites that only later versions of the tool have.
LATER_SUITES = ("ReportTargetPortGroups", "ReportLUNs", "iSCSINop", "iSCSISendTargets", "iSCSICHAP")


@pytest.fixture(scope="module")
def target(tool: Tool) -> Iterator[ServedTarget]:
    """A lab for all suites, one after the other, which meets no error of its own."""
    tool("iscsi-test-cu")
    with lab() as target:
        yield target
        assert "Traceback" not in target.errors


@pytest.mark.parametrize("suite", SUITES)
def test_suite_passes_in_the_lab(target: ServedTarget, suite: str) -> None:
    results = list(run_lab(target, [suite]))
    wrong = [
        f"{result.name} {result.verdict.value} {result.reason}"
        for result in results
        if result.verdict is not Verdict.PASS
    ]
    assert not wrong, "\n".join(wrong)
    assert results


def test_every_installed_suite_is_named_here(target: ServedTarget) -> None:
    assert {name.partition(".")[0] for name in installed_tests()} <= {*SUITES, *LATER_SUITES}
