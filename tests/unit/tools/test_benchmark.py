"""The benchmark's bookkeeping, with peers and clients that answer at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tools.benchmark import __main__ as bench
from tools.benchmark import plot, report, workloads
from tools.benchmark.limits import LIMITS, Limit
from tools.benchmark.peers import PEERS, Given, Peer
from tools.benchmark.process import Clocks
from tools.benchmark.rounds import Pace, Row, Rows, measure, pairs
from tools.benchmark.scenes import SCENES
from tools.benchmark.workloads import WORKLOADS, BenchmarkFailed, Measured, Workload, measured, with_iscsi_perf


def peers(*names: str) -> list[Peer]:
    found: list[Peer] = []
    for name in names:
        peer = Given("iscsi://nowhere/x/0", 0)
        peer.name = name
        found.append(peer)
    return found


def answering(values: Iterator[Measured]) -> Workload:
    return Workload("w", lambda *_: next(values))


def quietly(line: str) -> None:
    assert line


def row(workload: str, peer: str, *values: float, unit: str = "IOPS") -> Row:
    return Row(Workload(workload, with_iscsi_perf, unit), peer, tuple(Measured(value) for value in values))


def rows(*found: Row) -> Rows:
    return {(row.workload.name, row.peer): row for row in found}


def test_peers_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []

    def answer(workload: Workload, peer: Peer, seconds: float) -> Measured:
        order.append(peer.name)
        return Measured(len(order))

    found = measure([Workload("w", answer)], peers("a", "b"), Pace(2, 1.0), quietly)
    assert order == ["a", "b"] * 3
    assert [run.value for run in found["w", "a"].runs] == [3, 5]
    assert [run.value for run in found["w", "b"].runs] == [4, 6]


def test_a_disturbed_run_is_done_again_and_the_least_disturbed_one_counts() -> None:
    values = iter(
        [Measured(1), Measured(9, others_busy=0.9), Measured(2, others_busy=0.3), Measured(8, others_busy=0.4)]
    )
    found = measure([answering(values)], peers("a"), Pace(1, 1.0, again=2), quietly)
    assert [run.value for run in found["w", "a"].runs] == [2]


def test_a_quiet_run_is_not_done_again() -> None:
    values = iter([Measured(1), Measured(2, others_busy=0.1), Measured(3)])
    found = measure([answering(values)], peers("a"), Pace(2, 1.0, again=2), quietly)
    assert [run.value for run in found["w", "a"].runs] == [2, 3]


def test_a_failure_is_told_and_others_go_on() -> None:
    def answer(workload: Workload, peer: Peer, seconds: float) -> Measured:
        if peer.name == "a":
            raise BenchmarkFailed("why")
        return Measured(1)

    found = measure([Workload("w", answer)], peers("a", "b"), Pace(1, 1.0), quietly)
    assert found["w", "a"].failure == "why"
    assert found["w", "b"].value == 1
    assert any("why" in line for line in report.table(found))


def test_what_concerns_us_alone_runs_on_us_alone() -> None:
    found = pairs([Workload("w", with_iscsi_perf, for_us=True)], peers("ours", "tgtd"))
    assert [peer.name for _, peer in found] == ["ours"]


def test_what_wants_a_started_target_does_not_run_on_a_given_one() -> None:
    assert not list(pairs([Workload("w", with_iscsi_perf, started=True)], peers("a")))


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    found = rows(row("w", "ours", 100, 300, 900), row("w", "tgtd", 150, 150, 1))
    lines = [line.split() for line in report.table(found) if "tgtd" in line]
    assert lines == [["w", "tgtd", "150", "IOPS", "1", "150", "1", "2.00"]]


def test_limits_are_judged_on_ratios_and_values() -> None:
    found = rows(row("w", "ours", 300), row("w", "tgtd", 100), row("v", "ours", 150))
    limit = Limit("w", "ours", "w", "tgtd", least=2.5)
    assert limit.figure(found) == 3
    assert limit.is_met(3)
    assert not limit.is_met(2.4)
    beside = Limit("v", "ours", "w", "ours", least=0.8)
    assert beside.figure(found) == 0.5
    assert Limit("v", "ours", most=100).figure(found) == 150
    assert not Limit("v", "ours", most=100).is_met(150)


def test_a_limit_without_a_figure_has_no_verdict() -> None:
    assert LIMITS[0].figure({}) is None
    assert not list(report.verdicts({}))


def test_every_limit_speaks_of_a_workload_and_a_peer_that_there_are() -> None:
    names = {workload.name for workload in (*WORKLOADS, *SCENES)} | {""}
    known = {kind.name for kind in PEERS} | {""}
    for limit in LIMITS:
        assert {limit.workload, limit.other} <= names
        assert {limit.peer, limit.other_peer} <= known
        assert (limit.least is None) != (limit.most is None)


def test_workloads_have_names_of_their_own() -> None:
    names = [workload.name for workload in (*WORKLOADS, *SCENES)]
    assert len(names) == len(set(names))


def test_every_figure_is_in_the_json() -> None:
    found = rows(row("read-4k-qd32", "ours", 300, 200), row("read-4k-qd32", "tgtd", 100, 100))
    lines = [json.loads(line) for line in report.as_json(found, [report.Memory("ours", 1, 2)])]
    assert [run["value"] for run in lines[0]["runs"]] == [300, 200]
    assert lines[2]["met"]
    assert lines[2]["figure"] == 2.5
    assert lines[3]["memory"] == {"peer": "ours", "before": 1, "after": 2}


def test_the_picture_has_a_bar_for_every_peer() -> None:
    found = rows(row("w", "ours", 300), row("w", "tgtd", 100), row("w", "istgt", 200), row("s", "ours", 9, unit="ms"))
    root = ET.fromstring(plot.svg(found))
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"w", "3.00", "1.50", "tgtd", "istgt"} <= set(words)
    assert "s" not in words


def test_what_our_client_prints_is_read() -> None:
    spent = Clocks(elapsed_s=2.0, client_s=0.5, server_s=1.0, others_s=0.25, stolen_s=0.25)
    found = measured(json.dumps({"ios": 1000, "p50_us": 1.0, "p99_us": 2.0} | spent._asdict()))
    assert found == Measured(500, 1000, 0.5, 0.25, 0.25, 1.0, 2.0)


def test_the_average_of_iscsi_perf_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "\r00:01 - iops current 9, iops average 7 (1 MB/s)\riops average 8 (1 MB/s)\n"
    monkeypatch.setattr(workloads, "output_of", lambda *_: printed)
    assert with_iscsi_perf(Workload("w", with_iscsi_perf), Given("u", 0), 1).value == 8


def test_a_failed_client_shows_no_credentials() -> None:
    with pytest.raises(BenchmarkFailed, match="iscsi://host/x/0") as failed:
        workloads.output_of(["false", "iscsi://user%secret@host/x/0"], 1)
    assert "secret" not in str(failed.value)


def test_writes_on_a_given_url_want_dataloss(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "write", "iscsi://nowhere/x/0"]) == 2
    assert "nothing to run" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_left_out_with_its_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.main(["--peers", "istgt", "--only", "read-4k-qd1", "--directory", str(tmp_path)]) == 2
    assert "istgt is left out: install Debian's istgt" in capsys.readouterr().err


def test_a_client_that_is_not_installed_is_told_with_its_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.main(["--only", "iscsi-perf"]) == 2
    assert "install Debian's libiscsi-bin" in capsys.readouterr().err
