"""Every test of the installed libiscsi conformance suite that concerns what is built passes, and none hangs.

A skip is a failure here: it says that the target lacks what the test is for. Tests of what is not built yet are named
below; they may skip, but a target must withstand them.
"""

from collections.abc import Iterator

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import serving
from tests.endtoend.initiators import PLAIN
from tools.served import ServedTarget
from tools.suite import Verdict, installed_tests, run_suite

TIMEOUT_S = 60.0
# More than MAXIMUM WRITE SAME LENGTH, so that WRITE SAME of all blocks is refused, and few enough for READ(6).
SIZE_BYTES = 768 << 20
DISK_SUITES = (
    "CompareAndWrite",
    "ExtendedCopy",
    "Inquiry",
    "Mandatory",
    "ModeSense6",
    "OrWrite",
    "Prefetch10",
    "Prefetch16",
    "PrinReadKeys",
    "PrinServiceactionRange",
    "PrinReportCapabilities",
    "ProutRegister",
    "ProutReserve",
    "ProutClear",
    "ProutPreempt",
    "Read6",
    "Read10",
    "Read12",
    "Read16",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReceiveCopyResults",
    "ReportSupportedOpcodes",
    "Reserve6",
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
    "iSCSIcmdsn",
    "iSCSIdatasn",
    "iSCSIResiduals",
    "iSCSITMF",
    "MultipathIO",
)
# GetLBAStatus.UnmapSingle asks for the status of the second block and wants to be told of the second physical block,
# which only a unit whose physical blocks are logical blocks can do (libiscsi 1.19 and 1.20).
SMALL_SECTOR_SUITES = ("GetLBAStatus",)
READ_ONLY_SUITES = ("ReadOnly",)
REMOVABLE_SUITES = ("NoMedia", "PreventAllow", "StartStopUnit")
NOT_BUILT_YET = ("Sanitize",)
# Suites that only later versions of the tool have.
LATER_SUITES = ("ReportTargetPortGroups", "ReportLUNs", "iSCSINop", "iSCSISendTargets", "iSCSICHAP")


@pytest.fixture(scope="module")
def target(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedTarget]:
    """A target for all suites, one after the other."""
    tool("iscsi-test-cu")
    with serving(tmp_path_factory.mktemp("conformance"), PLAIN, size_bytes=SIZE_BYTES) as target:
        yield target


def run_on_unit(target: ServedTarget, suite: str, unit: int) -> None:
    urls = [target.url(unit), target.url(unit, path=1)]
    results = list(run_suite(urls, [suite], TIMEOUT_S))
    wrong = [
        f"{result.name} {result.verdict.value} {result.reason}"
        for result in results
        if result.verdict is not Verdict.PASS
    ]
    assert not wrong, "\n".join(wrong)
    assert results


@pytest.mark.parametrize("suite", DISK_SUITES)
def test_suite_passes_on_a_disk(target: ServedTarget, suite: str) -> None:
    run_on_unit(target, suite, 0)


@pytest.mark.parametrize("suite", SMALL_SECTOR_SUITES)
def test_suite_passes_on_a_disk_with_small_sectors(target: ServedTarget, suite: str) -> None:
    run_on_unit(target, suite, 3)


@pytest.mark.parametrize("suite", READ_ONLY_SUITES)
def test_suite_passes_on_a_write_protected_unit(target: ServedTarget, suite: str) -> None:
    run_on_unit(target, suite, 1)


@pytest.mark.parametrize("suite", REMOVABLE_SUITES)
def test_suite_passes_on_a_removable_unit(target: ServedTarget, suite: str) -> None:
    run_on_unit(target, suite, 2)


@pytest.mark.parametrize("suite", NOT_BUILT_YET)
def test_suite_of_what_is_not_built_does_not_hang(target: ServedTarget, suite: str) -> None:
    results = list(run_suite([target.url(0), target.url(0, path=1)], [suite], TIMEOUT_S))
    hung = [f"{result.name} {result.reason}" for result in results if result.verdict is Verdict.HANG]
    assert not hung, "\n".join(hung)
    assert results


def test_every_installed_suite_is_named_here(target: ServedTarget) -> None:
    named = {*DISK_SUITES, *SMALL_SECTOR_SUITES, *READ_ONLY_SUITES, *REMOVABLE_SUITES, *NOT_BUILT_YET, *LATER_SUITES}
    assert {name.partition(".")[0] for name in installed_tests()} <= named
