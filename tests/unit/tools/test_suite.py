"""The runner of the conformance suite, against what iscsi-test-cu 1.19.0 prints."""

from pathlib import Path

import pytest

from tools import suite
from tools.suite import Result, Verdict, judge, parse_list, run_test, select, summarise

PREAMBLE = """    Send READCAPACITY10 (Expecting SUCCESS) LBA:0 pmi:0
    [FAILED] INQUIRY of the tool itself, before the test

Suite: Read10
"""


def printed(body: str, ran: int = 1, failed: int = 0) -> str:
    return f"""{PREAMBLE}  Test: Simple ...
{body}

Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites      1      1    n/a      0        0
               tests      1      {ran}      1      {failed}        0
             asserts    512    512    512      {failed}      n/a
"""


def test_a_test_without_failure_or_skip_passes() -> None:
    assert judge(printed("    [OK] READ10 returned SUCCESS\npassed"), "", 0) == (Verdict.PASS, "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("    [SKIPPED] EXTENDEDCOPY is not implemented.", "EXTENDEDCOPY is not implemented."),
        ("  Test: Unmap ...    [SKIPPED] Not thin. Skipping test", "Not thin. Skipping test"),
        ("    [SKIPPING] No maximum - skipping asserts.", "No maximum - skipping asserts."),
        ("    Not removable. Skipping test", "Skipping test"),
    ],
)
def test_a_skip_is_no_pass_although_the_tool_counts_it_as_one(line: str, reason: str) -> None:
    assert judge(printed(line + "\npassed"), "", 0) == (Verdict.SKIP, reason)


def test_every_skipped_part_is_named_once() -> None:
    body = "    [SKIPPED] ORWRITE is not implemented.\n    [SKIPPED] UNMAP is not implemented.\n" * 2 + "passed"
    assert judge(printed(body), "", 0)[1] == "ORWRITE is not implemented. | UNMAP is not implemented."


def test_what_the_tool_prints_before_and_after_the_test_is_no_skip() -> None:
    body = "    [OK] fine\npassed    Send PRIN/READ_KEYS\n    [SKIPPED] PERSISTENT RESERVE IN is not implemented."
    assert judge("    [SKIPPED] INQUIRY\n" + printed(body), "", 0)[0] is Verdict.PASS


def test_a_failure_gives_the_failed_step_and_the_assertion() -> None:
    body = (
        "    [FAILED] READ10 successful but should have failed\n"
        "FAILED\n    1. test_read10.c:38  - CU_ASSERT_EQUAL(_r,0)    Send PRIN/READ_KEYS"
    )
    verdict, reason = judge(printed(body, failed=1), "", 1)
    assert verdict is Verdict.FAIL
    assert reason == "READ10 successful but should have failed | test_read10.c:38 - CU_ASSERT_EQUAL(_r,0)"


def test_of_several_runs_in_one_process_the_last_counts() -> None:
    first = "    [FAILED] too early\nFAILED\n    1. test_lu_reset.c:157  - CU_ASSERT_EQUAL(a,1)\n"
    second = "Suite: iSCSITMF\n  Test: Simple ...\n"
    assert judge(printed(first + second + "passed", ran=2, failed=1), "", 1)[0] is Verdict.PASS
    again = judge(printed("passed\n" + second + first, ran=2, failed=1), "", 1)
    assert again == (Verdict.FAIL, "too early | test_lu_reset.c:157 - CU_ASSERT_EQUAL(a,1)")


def test_a_failure_after_a_skip_is_a_failure() -> None:
    assert judge(printed("    [SKIPPED] half of it", failed=1), "", 0)[0] is Verdict.FAIL


def test_a_failed_login_is_a_failure_with_its_message() -> None:
    assert judge("", "\nFailed to connect to SCSI device 0\n", 255) == (
        Verdict.FAIL,
        "Failed to connect to SCSI device 0",
    )


def test_a_suite_that_ran_no_test_fails() -> None:
    assert judge(printed("", ran=0), "", 0) == (Verdict.FAIL, "the suite ran no test")


def test_a_crash_is_a_failure() -> None:
    assert judge(printed("passed"), "", -11) == (Verdict.FAIL, "killed by SIGSEGV")


def test_each_different_test_is_listed_once_in_order() -> None:
    listing = "SCSI\nSCSI.Read10\nSCSI.Read10.Simple\nSCSI.ReportLUNs.Simple\nALL\nALL.Read10\nALL.Read10.Simple\n"
    assert parse_list(listing) == {
        "Read10.Simple": "ALL.Read10.Simple",
        "ReportLUNs.Simple": "SCSI.ReportLUNs.Simple",
    }


def test_a_pattern_without_a_dot_is_a_whole_suite() -> None:
    tests = ["Read10.Simple", "Read10.Async", "Read16.Simple"]
    assert select(tests, ["Read10"]) == ["Read10.Simple", "Read10.Async"]
    assert select(tests, ["*.Simple"]) == ["Read10.Simple", "Read16.Simple"]
    assert select(tests, []) == tests


def test_a_test_that_does_not_end_is_killed_with_its_children_and_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "hangs"
    program.write_text("#!/bin/sh\necho started\nsleep 600 &\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(suite, "PROGRAM", str(program))
    result = run_test("ALL.Read10.Simple", ["iscsi://nowhere/x/0"], timeout_s=0.3)
    assert result.verdict is Verdict.HANG
    assert result.reason == "no end after 0.3 s; last: started"


def test_the_totals_name_every_verdict() -> None:
    results = [Result("a.b", Verdict.PASS, "", 0.1), Result("a.c", Verdict.SKIP, "why", 0.1)]
    assert summarise(results) == "2 tests: 1 pass, 0 fail, 1 skip, 0 hang"
