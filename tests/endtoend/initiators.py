"""How the installed initiators are called, once for every way to log in."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.served import ServedTarget

COMMAND_TIMEOUT_S = 120
USER, SECRET = "initiator", "secret-of-initiator"
TARGET_USER, TARGET_SECRET = "target", "secret-of-target"


class Login(NamedTuple):
    """A way to log in.

    name             in the name of a test
    authentication   lines of the configuration of discovery and of the target
    environment      of a libiscsi tool
    query            of a libiscsi URL
    image_options    of QEMU, which reads neither
    """

    name: str
    authentication: str = ""
    environment: Mapping[str, str] = {}
    query: str = ""
    image_options: str = ""

    def __str__(self) -> str:
        return self.name


_CHAP = f'chap = [{{ user = "{USER}", secret = "{SECRET}" }}]\n'
_MUTUAL_CHAP = f'mutual_chap = {{ user = "{TARGET_USER}", secret = "{TARGET_SECRET}" }}\n'
_CREDENTIALS = {"LIBISCSI_CHAP_USERNAME": USER, "LIBISCSI_CHAP_PASSWORD": SECRET}
_TARGET_CREDENTIALS = {
    "LIBISCSI_CHAP_TARGET_USERNAME": TARGET_USER,
    "LIBISCSI_CHAP_TARGET_PASSWORD": TARGET_SECRET,
}
_IMAGE_CREDENTIALS = f",file.user={USER},file.password={SECRET}"

# libiscsi 1.19 always asks for DataDigest=None, so that data digests are for tests with an initiator of our own. QEMU
# has no mutual CHAP; its log-in where the target could prove itself shows that the target does so only when asked.
PLAIN = Login("plain")
LOGINS = (
    PLAIN,
    Login("header_digest", query="?header_digest=crc32c", image_options=",file.header-digest=crc32c"),
    Login("chap", _CHAP, _CREDENTIALS, "", _IMAGE_CREDENTIALS),
    Login(
        "mutual_chap_and_header_digest",
        _CHAP + _MUTUAL_CHAP,
        _CREDENTIALS | _TARGET_CREDENTIALS,
        "?header_digest=crc32c",
        _IMAGE_CREDENTIALS + ",file.header-digest=crc32c",
    ),
)


class Finished(NamedTuple):
    """A program that has ended."""

    exit_code: int
    output: str
    errors: str


def attempt(words: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Finished:
    """Runs a program to its end, whatever that is; it sees nothing of our environment but PATH."""
    done = subprocess.run(
        [str(word) for word in words],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"} | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run(words: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Runs a program that must succeed, and returns what it printed."""
    finished = attempt(words, environment)
    assert finished.exit_code == 0, f"{words[0]}: exit code {finished.exit_code}\n{finished.output}{finished.errors}"
    return finished.output


class Initiators:
    """The initiators, logging in one way to one target.

    target    where
    login     how
    """

    def __init__(self, target: ServedTarget, login: Login) -> None:
        self.target = target
        self.login = login

    def libiscsi(self, program: Path, *options: str, unit: int = 0) -> str:
        """Runs a libiscsi tool on a unit and returns what it printed."""
        return run([program, *options, self.target.url(unit) + self.login.query], self.login.environment)

    def attempt_libiscsi(self, program: Path, *options: str, unit: int = 0) -> Finished:
        """Runs a libiscsi tool on a unit, to whatever end."""
        return attempt([program, *options, self.target.url(unit) + self.login.query], self.login.environment)

    def list_units(self, iscsi_ls: Path) -> str:
        """Returns what `iscsi-ls -s` shows of the first portal."""
        return run([iscsi_ls, "-s", f"iscsi://{self.target.portals[0]}/{self.login.query}"], self.login.environment)

    def image(self, unit: int = 0) -> str:
        """Returns QEMU's options for a unit as a raw image."""
        portal, name, lun = self.target.url(unit).removeprefix("iscsi://").split("/")
        place = f"file.driver=iscsi,file.transport=tcp,file.portal={portal},file.target={name},file.lun={lun}"
        return f"driver=raw,{place}{self.login.image_options}"

    def qemu_io(self, program: Path, *commands: str) -> str:
        """Runs commands of qemu-io, each of which must succeed, on unit 0, and returns what it printed."""
        words: list[str | Path] = [program, "-t", "none", "-d", "unmap"]
        for command in commands:
            words += ["-c", command]
        return run([*words, "--image-opts", self.image()])
