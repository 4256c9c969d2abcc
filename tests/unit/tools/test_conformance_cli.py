"""The command line of the conformance suite, without a run of it."""

import socket
import sys
from pathlib import Path

import pytest

from tools import suite
from tools.conformance_cli import main


def test_nothing_is_overwritten_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iscsi://nowhere/x/0"]) == 2
    assert "--dataloss" in capsys.readouterr().err


def test_no_match_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "lists"
    program.write_text(f"#!{sys.executable}\nprint('ALL.Read10.Simple')\n")
    program.chmod(0o755)
    monkeypatch.setattr(suite, "PROGRAM", str(program))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"iscsi://127.0.0.1:{listening.getsockname()[1]}/x/0"
        assert main(["--dataloss", "--only", "Nope", url]) == 2
    assert "no test matches Nope" in capsys.readouterr().err
    assert main(["--dataloss", url]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["--dataloss", "127.0.0.1"]) == 2
    assert "is no URL" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--lab", "iscsi://127.0.0.1/iqn.2026-11.org.example:lab/0"]])
def test_a_url_or_the_lab_is_wanted(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "name a unit by its URL, or say --lab" in capsys.readouterr().err
