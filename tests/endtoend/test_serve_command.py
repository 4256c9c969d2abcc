"""`iscsi-target serve` as a process: what it prints, and what signals do."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

CONFIGURATION = """\
[portal_groups.1]
listen = ["127.0.0.1:0"]
[units.disk0]
ram = true
size = "1MiB"
[[targets]]
name = "iqn.2026-11.org.example:disk0"
luns = { 0 = "disk0" }
"""


class Process:
    """A running command; `next` reads its events."""

    def __init__(self, *arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "iscsi_target", "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def next(self, event):
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for line in self.process.stdout:
            found = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"no {event}: {self.process.stderr.read()}")

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve():
    running = []

    def start(*arguments, **environment):
        running.append(Process(*arguments, **environment))
        return running[-1]

    yield start
    for process in running:
        process.end()


def test_text_on_standard_output_is_the_url(serve, tmp_path):
    process = serve("--state", tmp_path, "--listen", "127.0.0.1:0").process
    url = process.stdout.readline()
    assert url.startswith("iscsi://127.0.0.1:")
    assert url.endswith("/iqn.2026-11.org.iscsi-target:disk0/0\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_serving_is_the_first_json_event_and_stopped_the_last(serve, tmp_path):
    process = serve("--state", tmp_path, "--listen", "127.0.0.1:0", "--json")
    first = json.loads(process.process.stdout.readline())
    assert first["event"] == "serving"
    host, port = first["portals"][0].split(":")
    socket.create_connection((host, int(port))).close()
    process.process.send_signal(signal.SIGTERM)
    lines = process.process.stdout.read().splitlines()
    assert json.loads(lines[-1])["event"] == "stopped"
    assert process.process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_with_status_0(serve, tmp_path, number):
    process = serve("--state", tmp_path, "--listen", "127.0.0.1:0", "--json")
    process.next("serving")
    process.process.send_signal(number)
    assert process.process.wait(10) == 0


def test_hangup_reads_the_configuration_again_and_keeps_the_old_one_when_it_is_wrong(serve, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(CONFIGURATION)
    process = serve(path, "--state", tmp_path / "state", "--json")
    serving = process.next("serving")
    path.write_text(CONFIGURATION.replace("ram", "rom"))
    process.process.send_signal(signal.SIGHUP)
    failed = process.next("reload_failed")
    assert any("did you mean ram?" in mistake for mistake in failed["mistakes"])
    path.write_text(CONFIGURATION + '[[targets]]\nname = "iqn.2026-11.org.example:b"\nluns = { 0 = "disk0" }\n')
    process.process.send_signal(signal.SIGHUP)
    assert process.next("reloaded")["targets"] == 2
    host, port = serving["portals"][0].split(":")
    socket.create_connection((host, int(port))).close()


def test_hangup_with_a_larger_size_makes_the_file_longer(serve, tmp_path):
    path, image = tmp_path / "config.toml", tmp_path / "state" / "grows.img"
    path.write_text(CONFIGURATION + '[units.grows]\nfile = "grows.img"\nsize = "1MiB"\n')
    process = serve(path, "--state", tmp_path / "state", "--json")
    process.next("serving")
    path.write_text(path.read_text().replace("1MiB", "2MiB"))
    process.process.send_signal(signal.SIGHUP)
    process.next("reloaded")
    assert image.stat().st_size == 2 << 20


def test_service_manager_is_told_of_readiness_reload_and_end(serve, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        process = serve("--state", tmp_path, "--listen", "127.0.0.1:0", "--json", **environment)
        assert manager.recv(1000).startswith(b"READY=1\n")
        assert manager.recv(1000) == b"WATCHDOG=1"
        process.process.send_signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000).startswith(b"READY=1\n")
        process.process.send_signal(signal.SIGTERM)
        assert manager.recv(1000).startswith(b"STOPPING=1\n")
    assert process.process.wait(10) == 0


def test_port_in_use_is_one_line_and_exit_status_2(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve("--state", tmp_path, "--listen", f"127.0.0.1:{taken.getsockname()[1]}").process
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (2, "")
    [line] = err.splitlines()
    assert "address already in use; stop what listens there" in line
