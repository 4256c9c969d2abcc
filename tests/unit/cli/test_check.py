"""`iscsi-target check` and the command line around it, as a person uses it."""

import pytest

from iscsi_target.cli import main

CORRECT = """\
[portal_groups.1]
listen = ["127.0.0.1:0"]
[units.disk0]
ram = true
size = "1MiB"
[[targets]]
name = "iqn.2026-11.org.example:disk0"
luns = { 0 = "disk0" }
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "config.toml"
    found.write_text(CORRECT)
    return found


def test_correct_configuration_is_said_to_be_correct(path, capsys):
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: correct; targets: 1, units: 1\n"


def test_state_option_says_where_relative_files_are(path, tmp_path, capsys):
    path.write_text(CORRECT.replace('ram = true\nsize = "1MiB"', 'file = "disk0.img"'))
    (tmp_path / "disk0.img").write_bytes(bytes(512))
    assert main(["check", str(path), "--state", str(tmp_path)]) == 0
    assert main(["check", str(path), "--state", str(tmp_path / "elsewhere")]) == 2


def test_mistakes_go_to_standard_error_one_a_line(path, capsys):
    path.write_text(CORRECT.replace("ram = true", "rom = true"))
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{path}:4: units.disk0.rom is unknown; did you mean ram?\n" in err


@pytest.mark.parametrize("command", ["check", "serve"])
def test_missing_file_is_one_line_and_exit_status_2(command, tmp_path, capsys):
    assert main([command, str(tmp_path / "none.toml")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"iscsi-target: {tmp_path}/none.toml: no such file or directory; name a readable file"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "iscsi-target serve --listen" in capsys.readouterr().out


def test_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("iscsi-target ")
