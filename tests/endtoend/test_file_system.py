"""A tree of files is put onto a unit as an ext4 file system, checked there, and copied back whole.

    tree ── mke2fs ──> image ── qemu-img ─────────────────> unit ── qemu-img ──> image ── e2fsck, debugfs ──> tree
                       image ── qemu-img ──> qemu-nbd ────> unit
    tree ── mke2fs, e2fsck, debugfs ──> FUSE export ──────> unit

There need be no kernel with iSCSI, NBD or root: mke2fs and debugfs read and write a file system by themselves. A FUSE
export makes a file of the unit, on which they work directly; that takes /dev/fuse and the right to mount.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import SIZE_BYTES, Serve
from tests.endtoend.initiators import PLAIN, Initiators, attempt, run
from tools.served import ServedTarget

START_TIMEOUT_S = 20.0
POLL_S = 0.01
LENGTHS = (0, 1, 511, 512, 4095, 4096, 4097, 1 << 20, 5_000_001)

Tree = dict[str, tuple[str, int, bytes]]


@pytest.fixture
def target(serve: Serve) -> ServedTarget:
    return serve(PLAIN)


@pytest.fixture
def unit(target: ServedTarget) -> str:
    """QEMU's options for unit 0."""
    return Initiators(target, PLAIN).image()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of lengths around a block, directories within directories, links, and modes."""
    root = tmp_path_factory.mktemp("tree")
    for length in LENGTHS:
        (root / f"file-{length}").write_bytes(bytes(number * 7 % 251 for number in range(length)))
    deep = root.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "deep").write_text("found")
    many = root / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03}").write_text(str(number))
    (root / "link").symlink_to("file-4097")
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o750)
    return root


def listing(root: Path) -> Tree:
    """Returns what is in a tree: kind, mode and content of everything by its place."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        place = str(path.relative_to(root))
        if place.startswith("lost+found"):
            continue
        if path.is_symlink():
            found[place] = ("link", 0, bytes(path.readlink()))
        elif path.is_dir():
            found[place] = ("directory", path.stat().st_mode, b"")
        else:
            found[place] = ("file", path.stat().st_mode, path.read_bytes())
    return found


class Bench:
    """The programs, and a folder for what they make.

    tool       finds a program
    qemu_img   speaks iSCSI
    """

    def __init__(self, tool: Tool, qemu_img: Path, folder: Path) -> None:
        self.tool = tool
        self.qemu_img = qemu_img
        self.folder = folder

    def make(self, tree: Path, place: Path) -> None:
        """Makes a file system of a tree in an image that is there."""
        run([self.tool("mke2fs"), "-q", "-F", "-t", "ext4", "-d", tree, place])

    def put(self, image: Path, unit: str) -> None:
        """Copies an image to a unit."""
        run([self.qemu_img, "convert", "-n", "-f", "raw", image, "--target-image-opts", unit])

    def fetch(self, unit: str) -> Path:
        """Copies a unit to an image."""
        back = self.folder / "back.img"
        run([self.qemu_img, "convert", "-O", "raw", "--image-opts", unit, back])
        return back

    def check_and_copy(self, image: Path) -> Tree:
        """Checks a file system, copies all that is in it, and returns what that is."""
        run([self.tool("e2fsck"), "-f", "-n", image])
        out = self.folder / f"out of {image.name}"
        out.mkdir()
        run([self.tool("debugfs"), "-R", f'rdump / "{out}"', image])
        return listing(out)


@pytest.fixture
def bench(tool: Tool, qemu_img: Path, tmp_path: Path) -> Bench:
    return Bench(tool, qemu_img, tmp_path)


@pytest.fixture
def image(tree: Path, bench: Bench) -> Path:
    made = bench.folder / "ext4.img"
    with made.open("wb") as file:
        file.truncate(SIZE_BYTES)
    bench.make(tree, made)
    return made


@contextmanager
def started(words: list[str | Path], ready: Callable[[], bool]) -> Iterator[None]:
    """A program that runs until the end of the block, from when it is ready; skips the test when it ends before."""
    program = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert program.stderr is not None
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not ready():
            if program.poll() is not None:
                pytest.skip(f"{Path(words[0]).name} cannot do this here: {program.stderr.read().decode()}")
            assert time.monotonic() < deadline_s, f"{words[0]} is not ready after {START_TIMEOUT_S:g} s"
            time.sleep(POLL_S)
        yield
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait(START_TIMEOUT_S)
        program.stderr.close()


def test_a_tree_goes_to_the_unit_and_comes_back_whole(unit: str, tree: Path, image: Path, bench: Bench) -> None:
    bench.put(image, unit)
    assert bench.check_and_copy(bench.fetch(unit)) == listing(tree)


def test_a_tree_goes_to_the_unit_by_an_nbd_server_before_it(unit: str, tree: Path, image: Path, bench: Bench) -> None:
    socket = bench.folder / "nbd"
    nbd = f"driver=raw,file.driver=nbd,file.path={socket}"
    words: list[str | Path] = [bench.tool("qemu-nbd"), "--persistent", "--socket", socket, "--discard=unmap"]
    with started([*words, "--image-opts", unit], socket.exists):
        bench.put(image, nbd)
        assert "identical" in run([bench.qemu_img, "compare", "--image-opts", nbd, unit])
    assert bench.check_and_copy(bench.fetch(unit)) == listing(tree)


def test_a_file_system_is_made_checked_and_read_on_the_unit_itself(unit: str, tree: Path, bench: Bench) -> None:
    daemon = shutil.which("qemu-storage-daemon")
    if daemon is None or not Path("/dev/fuse").exists():
        pytest.skip("a FUSE export takes qemu-storage-daemon and /dev/fuse")
    place = bench.folder / "unit"
    place.touch()
    disk = unit.removeprefix("driver=raw,").replace("file.", "")
    words = [daemon, "--blockdev", f"node-name=unit,discard=unmap,{disk}"]
    words += ["--export", f"type=fuse,id=export,node-name=unit,mountpoint={place},writable=on"]
    with started([*words], lambda: place.stat().st_size == SIZE_BYTES):
        bench.make(tree, place)
        assert bench.check_and_copy(place) == listing(tree)
    assert bench.check_and_copy(bench.fetch(unit)) == listing(tree)


def test_a_file_system_that_is_damaged_on_the_unit_does_not_pass(
    unit: str, image: Path, qemu_io: Path, bench: Bench
) -> None:
    bench.put(image, unit)
    run([qemu_io, "-c", "write -P 0xff 1k 256k", "--image-opts", unit])
    assert attempt([bench.tool("e2fsck"), "-f", "-n", bench.fetch(unit)]).exit_code
