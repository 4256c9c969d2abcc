"""`iscsi-target serve` up to where it would serve; running servers are in tests/endtoend/test_serve_command.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli.serve import Options, read_configuration
from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError

NOTHING = Options(configuration=None, state=None, listen=None, trace=None, json=False, verbose=False)
MISTAKEN = """\
[portal_groups.1]
listem = ["127.0.0.1:0"]
[units.disk0]
rom = true
[[targets]]
name = "iqn.2026-11.org.example:disk0"
"""

LOADED_WHEN_NEEDED = {
    *("construct", "crcmod", "fastcrc", "pcapng", "pydantic", "tomllib"),  # oracle, digests, trace, configuration
    *("hmac", "http.client", "importlib.metadata", "random", "secrets", "tempfile"),
    *("iscsi_target.config.checks", "iscsi_target.config.tables", "iscsi_target.server.trace"),
    *("iscsi_target.storage.file", "iscsi_target.storage.ram"),
}


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "config.toml"
    found.write_text(MISTAKEN)
    return found


def test_start_loads_nothing_that_only_some_servers_need():
    script = "import sys, iscsi_target.cli.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "iscsi_target.server.server" in loaded
    assert not LOADED_WHEN_NEEDED.intersection(loaded)


def test_state_option_names_the_directory_of_the_default_unit():
    configuration = read_configuration(NOTHING._replace(state=Path("/state")))
    assert (configuration.state, configuration.units[0].path) == (Path("/state"), Path("/state/disk0.img"))


def test_listen_option_replaces_the_addresses():
    configuration = read_configuration(NOTHING._replace(listen="[::1]:0"))
    assert configuration.portal_groups[0].listen == (Address("::1", 0),)


def test_serve_tells_every_mistake(path, capsys):
    assert main(["serve", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) >= 2


def test_wrong_listen_option_is_one_line(capsys):
    assert main(["serve", "--listen", "::1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("iscsi-target: --listen: '::1' is an IPv6 address without brackets; write HOST:PORT")


def test_busy_polling_of_the_command_line_goes_before_that_of_the_file(tmp_path):
    file = tmp_path / "target.toml"
    unit, target = '[units.disk0]\nram = true\nsize = "1MiB"\n', '[[targets]]\nname = "iqn.2026-11.a:b"\n'
    file.write_text(f"busy_poll_us = 200\n{unit}{target}")
    configured = NOTHING._replace(configuration=file, state=tmp_path)
    assert read_configuration(configured).busy_poll_us == 200
    assert read_configuration(configured._replace(busy_poll_us=0)).busy_poll_us == 0
    with pytest.raises(ConfigError, match="--busy-poll"):
        read_configuration(configured._replace(busy_poll_us=-1))
