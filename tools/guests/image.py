"""Makes the image that guests boot: a kernel, an initramfs and a root file system, of Debian's packages alone.

It is made once and kept in the user's cache folder, under a name that holds a hash of what it was made from, so that
checkouts of the same revision share it. mmdebstrap makes it as root, or in a user namespace as another user.
"""

import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

RELEASE = "bookworm"  # what programs of the guest print is in the expected output of tests
ARCHITECTURE = "amd64"
PACKAGES = (
    "linux-image-amd64",  # the cloud kernel lacks scsi_dh_alua, gfs2 and ocfs2
    "busybox-static",
    "e2fsprogs",
    "fio",
    "gfs2-utils",
    "iproute2",
    "kmod",
    "lsscsi",
    "mount",
    "multipath-tools",
    "ocfs2-tools",
    "open-iscsi",
    "procps",
    "python3",
    "sg3-utils",
    "targetcli-fb",
    "udev",
    "xfsprogs",
    "python3-pexpect",  # this and the next are for the fence agents
    "python3-pycurl",
)
# Unpacked without what it depends on, which is ten times as much as all the rest and serves other agents.
AGENTS = "fence-agents"
AGENT_FILES = ("./usr/sbin/fence_scsi", "./usr/sbin/fence_mpath", "./usr/share/fence")
NOT_UNPACKED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/lib/modules/*/kernel/*")
MODULES = (
    *("arch/*", "block/*", "crypto/*", "fs/*", "lib/*", "net/core/*", "net/ipv4/*", "net/ipv6/*", "net/sctp/*"),
    *(f"drivers/{folder}/*" for folder in ("block", "char", "dax", "md", "scsi", "target", "virtio")),
    *("drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"),
)
INSIDE = Path(__file__).parent / "inside"
PROGRAMS = {"mmdebstrap": "mmdebstrap", "sqfstar": "squashfs-tools"}
KEPT_S = 14 * 24 * 3600.0  # an image that no guest has booted for so long goes when a new one is made
BUILD_TIMEOUT_S = 1800.0


class GuestUnavailable(Exception):
    """Says why no guest can be had here, and what to do."""


class Image(NamedTuple):
    """What a guest boots from, none of which it changes.

    kernel, initramfs, root   files of one folder
    """

    kernel: Path
    initramfs: Path
    root: Path


def cache_folder() -> Path:
    """Returns where images are kept: below $XDG_CACHE_HOME, or else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iscsi-target"


def fingerprint() -> str:
    """Returns a hash of what an image is made from; packages count by name, so that updates alone do not change it."""
    parts = [path.read_bytes() for path in sorted(INSIDE.iterdir())] + [Path(__file__).read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def ready_image() -> Image:
    """Returns the image, and makes it first when there is none; whoever comes second waits for the first.

    raises   GuestUnavailable
    """
    folder = cache_folder() / f"guest-{fingerprint()}"
    image = Image(folder / "vmlinuz", folder / "initramfs", folder / "root.squashfs")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with _locked(cache_folder() / "guest.lock"):
        if not folder.exists():
            _remove_old_images()
            _make(folder)
        os.utime(folder)
    return image


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_old_images() -> None:
    for folder in cache_folder().glob("guest-*/"):
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder)


def require(programs: dict[str, str]) -> None:
    """Checks that programs are installed.

    programs   name -> Debian's package
    raises     GuestUnavailable
    """
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if missing:
        raise GuestUnavailable(f"not installed; on Debian: apt-get install --no-install-recommends {' '.join(missing)}")


def _make(folder: Path) -> None:
    """Makes an image beside where it goes, so that it is there whole or not at all."""
    require(PROGRAMS)
    if platform.machine() != "x86_64":
        raise GuestUnavailable(f"guests are made on x86_64 only, and this is {platform.machine()}")
    print(f"guest: making {folder}; this takes some minutes, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder.parent) as made:
        _make_root(Path(made))
        Path(made).rename(folder)
        Path(made).mkdir()  # for the context manager to remove


def _make_root(made: Path) -> None:
    """Runs mmdebstrap into sqfstar."""
    log = made / "log"
    squash = ["sqfstar", "-quiet", "-no-progress", "-comp", "lz4", str(made / "root.squashfs"), "boot/*", "dev/*"]
    with (
        log.open("wb") as messages,
        subprocess.Popen(_mmdebstrap(made), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as tree,
        subprocess.Popen(squash, stdin=tree.stdout, stdout=messages, stderr=messages) as pack,
    ):
        assert tree.stdout is not None
        tree.stdout.close()  # so that mmdebstrap is told when sqfstar has ended
        try:
            status = tree.wait(BUILD_TIMEOUT_S) or pack.wait(BUILD_TIMEOUT_S)
        except BaseException:
            tree.terminate()
            raise
    if status != 0:
        raise GuestUnavailable(f"the image could not be made; the end of what mmdebstrap said:\n{_reasons(log)}")
    log.unlink()


def _reasons(log: Path) -> str:
    """Picks what tells why: apt's errors name the packages that cannot be had, and before dpkg's stands the reason."""
    lines = log.read_text(errors="replace").splitlines()
    wrong = [number for number, line in enumerate(lines) if re.match(r"E: |dpkg: error|Errors were", line)]
    told = lines[max(0, wrong[0] - 10) : wrong[-1] + 1] if wrong else lines
    return "\n".join(told[-40:])


def _mmdebstrap(made: Path) -> list[str]:
    patterns = [f"path-exclude={pattern}" for pattern in NOT_UNPACKED]
    patterns += [f"path-include=/lib/modules/*/kernel/{pattern}" for pattern in MODULES]
    inside = shlex.join(str(path) for path in sorted(INSIDE.iterdir()))
    agents = (
        f"apt-get download -qq {AGENTS} && dpkg-deb --fsys-tarfile {AGENTS}_*.deb | tar -x -C / {' '.join(AGENT_FILES)}"
    )
    hooks = [
        f'chroot "$1" sh -c "cd /tmp && {agents} && rm {AGENTS}_*.deb"',
        'mkdir "$1/usr/lib/guest"',
        f"copy-in {inside} /usr/lib/guest",
        'chroot "$1" /usr/lib/guest/make-initramfs',
        f"download /boot/vmlinuz {shlex.quote(str(made))}/vmlinuz",
        f"download /boot/initramfs {shlex.quote(str(made))}/initramfs",
    ]
    return [
        *("mmdebstrap", "--variant=apt", f"--architectures={ARCHITECTURE}", "--format=tar"),
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt={pattern}" for pattern in patterns),
        "--dpkgopt=force-unsafe-io",
        # the initramfs of initramfs-tools would never be used
        "--dpkgopt=force-confold",
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools"',
        '--essential-hook=echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"',
        *(f"--customize-hook={hook}" for hook in hooks),
        *(RELEASE, "-", *_sources()),
    ]


def _sources() -> list[str]:
    """Returns the lines of sources.list that this machine's own apt uses for the release, none when it is another's."""
    if shutil.which("apt-get") is None:
        return []
    form = "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"
    words = ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    lines = [line for line in dict.fromkeys(listed) if line.split()[2].startswith(RELEASE)]
    return lines if any(line.split()[2] == RELEASE for line in lines) else []
