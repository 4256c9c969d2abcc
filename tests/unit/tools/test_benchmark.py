"""The benchmark's bookkeeping, with a client that answers at once."""

import pytest

from tools import benchmark
from tools.benchmark import Workload, measure_reads, report


def test_runs_of_different_units_alternate_and_the_first_repeat_is_not_counted() -> None:
    order: list[str] = []

    def answer(workload: Workload, url: str, seconds: float) -> float:
        order.append(url)
        return float(len(order))

    workload = Workload("w", 4096, 1, (), answer, False)
    rows = benchmark.benchmark(["a", "b"], [workload], repeats=2, seconds=1)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert rows["w", 0].iops == [3, 5]
    assert rows["w", 1].iops == [4, 6]


def test_the_ratio_is_of_medians_to_the_first_unit() -> None:
    rates = iter([0, 0, 100, 150, 100, 150, 900, 150])
    workload = Workload("w", 4096, 1, (), lambda *_: next(rates), False)
    rows = benchmark.benchmark(["a", "b"], [workload], repeats=3, seconds=1)
    assert [line.split()[-1] for line in report(rows, ["a", "b"])][1:3] == ["1.00", "1.50"]


def test_a_report_shows_no_credentials() -> None:
    assert list(report({}, ["iscsi://user%secret@host/x/0"]))[-1] == "unit 0: host/x/0"


def test_writes_on_a_given_url_want_dataloss(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--only", "write", "iscsi://nowhere/x/0"]) == 2
    assert "nothing to run" in capsys.readouterr().err


def test_the_average_of_iscsi_perf_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "\r00:01 - iops current 9, iops average 7 (1 MB/s)\riops average 8 (1 MB/s)\n"
    monkeypatch.setattr(benchmark, "_output", lambda *_: printed)
    assert measure_reads(Workload("w", 4096, 1, (), measure_reads, False), "u", 1) == 8
