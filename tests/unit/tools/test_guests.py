"""The image of guests is made once, whole or not at all; a guest that fails is ended and says why.

mmdebstrap, sqfstar and QEMU are played by little scripts here. tests/guest has the real ones.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.guests import image
from tools.guests.cli import UNAVAILABLE, main
from tools.guests.image import GuestUnavailable, Image, fingerprint, ready_image
from tools.guests.machine import GuestFailed, booted

MAKE = 'echo made >>"$MADE"; for word; do case $word in *=download*) eval touch "${word##* }";; esac; done'
PACK = 'cat >/dev/null; for word; do case $word in *.squashfs) touch "$word";; esac; done'


class Programs:
    """Programs that play others.

    folder   what PATH has before all else
    made     has a line for every image that was made
    """

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder, self.made = folder, made

    def play(self, name: str, body: str) -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs(tmp_path / "bin", tmp_path / "made")
    found.folder.mkdir()
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MADE", str(found.made))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found.play("mmdebstrap", MAKE)
    found.play("sqfstar", PACK)
    return found


def test_an_image_is_made_once_when_two_start_at_once(programs: Programs) -> None:
    words = [sys.executable, "-c", "from tools.guests.image import ready_image; ready_image()"]
    started = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert programs.made.read_text() == "made\n"
    assert all(path.exists() for path in ready_image())


def test_what_the_image_is_made_from_decides_which_one_it_is(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "INSIDE", tmp_path / "inside")
    image.INSIDE.mkdir()
    (image.INSIDE / "start").write_text("one")
    one = fingerprint()
    assert ready_image().root.parent.name == f"guest-{one}"
    (image.INSIDE / "start").write_text("two")
    assert fingerprint() != one
    assert ready_image().root.parent.name == f"guest-{fingerprint()}"


def test_a_build_that_fails_names_the_package_and_leaves_nothing(programs: Programs) -> None:
    programs.play("mmdebstrap", "echo 'E: Unable to locate package fio' >&2; exit 25")
    with pytest.raises(GuestUnavailable, match="E: Unable to locate package fio"):
        ready_image()
    assert [path.name for path in image.cache_folder().iterdir()] == ["guest.lock"]


def test_a_missing_program_is_named_by_its_package(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs.folder / "sqfstar").unlink()
    monkeypatch.setenv("PATH", str(programs.folder))
    with pytest.raises(GuestUnavailable, match="apt-get install --no-install-recommends squashfs-tools"):
        ready_image()


def test_an_image_that_was_not_used_for_long_goes_when_another_is_made(programs: Programs) -> None:
    old, recent = (image.cache_folder() / f"guest-{name}" for name in ("old", "recent"))
    old.mkdir(parents=True)
    recent.mkdir()
    os.utime(old, (0, 0))
    ready_image()
    assert (old.exists(), recent.exists()) == (False, True)


AGENT = """
import json, socket, sys
words = " ".join(sys.argv)
channel = socket.socket(fileno=int(words.split("fd=")[1].split()[0])).makefile("rw")
def say(**message):
    print(json.dumps(message), file=channel, flush=True)
say(ready=True)
for line in channel:
    {answer}
"""


def _boots(programs: Programs, answer: str) -> Image:
    agent = programs.folder / "agent.py"
    agent.write_text(AGENT.format(answer=answer))
    programs.play("qemu-system-x86_64", f'echo "$$" >>"$MADE"; exec {sys.executable} {agent} "$@"')
    return Image(agent, agent, agent)


def test_a_script_has_its_output_as_it_comes_and_its_status(programs: Programs) -> None:
    seen: list[str] = []
    answer = "request = json.loads(line); say(output=request['script']); say(output='!'); say(status=3)"
    with booted(_boots(programs, answer)) as guest:
        assert guest.run("one", on_output=seen.append) == ("one!", 3)
        assert guest.run("two") == ("two!", 3)
    assert seen == ["one", "!"]


def test_a_guest_that_ends_says_what_was_on_its_console(programs: Programs) -> None:
    answer = "sys.exit('Kernel panic')"
    with (
        booted(_boots(programs, answer), "a") as guest,
        pytest.raises(GuestFailed, match=r"'a' ended[^!]*Kernel panic"),
    ):
        guest.run("exit")


def test_a_guest_that_does_not_boot_is_ended(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.guests.machine.BOOT_TIMEOUT_S", 0.2)
    programs.play("qemu-system-x86_64", 'echo "$$" >"$MADE"; exec sleep 60')
    with pytest.raises(GuestFailed, match="did not answer in time"), booted(Image(Path(), Path(), Path())):
        pass
    assert not Path(f"/proc/{programs.made.read_text().strip()}").exists()


def test_ports_of_a_guest_answer_at_the_loopback_of_the_host(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.guests.machine.BOOT_TIMEOUT_S", 0.2)
    programs.play("qemu-system-x86_64", 'echo "$@" >"$MADE"; exec sleep 60')
    with pytest.raises(GuestFailed), booted(Image(Path(), Path(), Path()), forwarded={7000: 3260, 7001: 3261}):
        pass
    forwards = re.findall(r"hostfwd=\S*?:(\S+?):(\d+)-\S+?:(\d+)", programs.made.read_text())
    assert forwards == [("127.0.0.1", "7000", "3260"), ("127.0.0.1", "7001", "3261")]


def test_a_script_without_a_guest_ends_with_125(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(programs.folder / "nowhere.sh")]) == UNAVAILABLE
    assert "nowhere.sh" in capsys.readouterr().err
