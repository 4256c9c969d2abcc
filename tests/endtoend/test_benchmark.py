"""The clients of tools/bench against a target: what they count is what was read and written."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.benchmark import __main__ as bench
from tools.served import ServedTarget

CONFIGURATION = """
[units.disk0]
ram = true
size = "16MiB"

[[targets]]
name = "iqn.2026-11.org.example:disks"
luns = { 0 = "disk0" }
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedTarget]:
    directory = tmp_path_factory.mktemp("bench")
    (directory / "bench.toml").write_text(CONFIGURATION)
    with ServedTarget(directory / "state", (str(directory / "bench.toml"),)) as target:
        yield target


def client(module: str, served: ServedTarget, *words: str) -> dict[str, float]:
    command = [sys.executable, "-m", f"tools.benchmark.{module}", served.url(), "--seconds", "0.1", *words]
    done = subprocess.run([*command, "--server", str(served.pid)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("digests", [(), ("--digests",)], ids=["plain", "digests"])
@pytest.mark.parametrize("kind", [(), ("--writes",)], ids=["read", "write"])
@pytest.mark.parametrize(
    "shape",
    [
        ("--random",),
        ("--random", "--depth", "32"),
        ("--random", "--depth", "4", "--sessions", "4"),
        ("--size", "1048576", "--depth", "8"),
        ("--random", "--once", "--size", "8192", "--depth", "16"),
    ],
    ids=" ".join,
)
def test_a_load_counts_commands_and_finds_what_it_wrote(
    served: ServedTarget, shape: tuple[str, ...], kind: tuple[str, ...], digests: tuple[str, ...]
) -> None:
    found = client("load", served, *shape, *kind, *digests)
    assert found["ios"] > 0
    assert found["elapsed_s"] > 0


def test_logins_are_counted(served: ServedTarget) -> None:
    assert client("logins", served)["ios"] > 0


@pytest.mark.parametrize("kind", [(), ("--writes",)], ids=["read", "write"])
def test_a_held_reservation_is_compared_with_none(served: ServedTarget, kind: tuple[str, ...]) -> None:
    assert client("registrants", served, "--slice", "0.05", *kind)["rate"] > 0


def test_a_whole_run_prints_a_line_for_every_workload(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [
        "--only",
        "read-4k-qd32,cold,start",
        "--peers",
        "ours",
        "--repeats",
        "1",
        "--seconds",
        "0.1",
        "--size",
        "16",
    ]
    picture = tmp_path / "ratios.svg"
    status = bench.main([*words, "--again", "0", "--directory", str(tmp_path), "--json", "--svg", str(picture)])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failures = [line["failure"] for line in printed if line.get("failure")]
    assert (status, failures) == (0, [])
    measured = {line["workload"] for line in printed if "workload" in line}
    assert {"read-4k-qd32", "cold-read-4k-qd32", "start-serve", "start-embedded"} <= measured
    assert picture.read_text().startswith("<svg")
