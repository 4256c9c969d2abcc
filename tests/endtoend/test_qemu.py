"""QEMU moves a real file system to a unit and back, writes through, discards, and finds its data after a crash."""

from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import SIZE_BYTES, Serve
from tests.endtoend.initiators import LOGINS, PLAIN, Initiators, Login, attempt, run


@pytest.fixture(scope="module")
def file_system(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Path:
    """An ext4 image of the unit's size with files of every length around a block, and a large one.

    What is zero in it is a hole, and not allocated without having been written, which would look like data once read.
    """
    folder = tmp_path_factory.mktemp("ext4")
    content = folder / "content"
    content.mkdir()
    for length in (0, 1, 4095, 4096, 4097, 5_000_000):
        (content / f"file-{length}").write_bytes(bytes(number % 251 for number in range(length)))
    made, image = folder / "made.img", folder / "ext4.img"
    with made.open("wb") as file:
        file.truncate(SIZE_BYTES)
    run([tool("mkfs.ext4"), "-q", "-F", "-d", content, made])
    run([tool("qemu-img"), "convert", "-f", "raw", "-O", "raw", made, image])
    return image


def test_a_file_system_goes_to_the_unit_and_back(
    initiators: Initiators, file_system: Path, qemu_img: Path, tool: Tool, tmp_path: Path
) -> None:
    unit = initiators.image()
    run([qemu_img, "convert", "-n", "-f", "raw", file_system, "--target-image-opts", unit])
    local = f"driver=raw,file.driver=file,file.filename={file_system}"
    assert "identical" in run([qemu_img, "compare", "-s", "--image-opts", local, unit])
    back = tmp_path / "back.img"
    run([qemu_img, "convert", "-O", "raw", "--image-opts", unit, back])
    assert back.read_bytes() == file_system.read_bytes()
    run([tool("e2fsck"), "-f", "-n", back])


def test_writes_with_fua_are_read_back(initiators: Initiators, qemu_io: Path) -> None:
    initiators.qemu_io(
        qemu_io,
        "write -f -P 0xa5 0 64k",
        "write -f -P 0x5a 65024 1M",  # neither aligned to a physical block nor within one burst
        "read -P 0xa5 0 65024",
        "read -P 0x5a 65024 1M",
    )


def test_discarded_blocks_read_as_zeros_and_free_the_file(initiators: Initiators, qemu_io: Path) -> None:
    file = initiators.target.state / "disk.img"
    initiators.qemu_io(qemu_io, "write -P 0x11 8M 8M", "flush")
    occupied = file.stat().st_blocks
    initiators.qemu_io(qemu_io, "discard 8M 8M", "read -P 0 8M 8M", "flush")
    assert file.stat().st_blocks <= occupied - (8 << 20) // 512


def test_zeroes_are_written_and_unmapped(initiators: Initiators, qemu_io: Path) -> None:
    initiators.qemu_io(
        qemu_io, "write -P 0x33 24M 2M", "write -z 24M 1M", "write -z -u 25M 512k", "read -P 0 24M 1536k"
    )
    initiators.qemu_io(qemu_io, "read -P 0x33 26112k 512k")


def test_many_requests_at_once_do_not_mix(initiators: Initiators, qemu_io: Path) -> None:
    writes = [f"aio_write -P {number + 1} {32 + number}M 1M" for number in range(16)]
    reads = [f"aio_read -P {number + 1} {32 + number}M 1M" for number in range(16)]
    printed = initiators.qemu_io(qemu_io, *writes, "aio_flush", *reads, "aio_flush")
    assert "verification failed" not in printed


@pytest.mark.parametrize("login", LOGINS, ids=str)
def test_what_was_acknowledged_is_there_after_a_crash(login: Login, serve: Serve, qemu_io: Path) -> None:
    target = serve(login)
    client = Initiators(target, login)
    client.qemu_io(qemu_io, "write -f -P 0x71 0 1M")
    target.kill9()
    target.restart()
    client.qemu_io(qemu_io, "read -P 0x71 0 1M", "write -P 0x72 1M 1M", "flush")
    target.kill9()
    target.restart()
    client.qemu_io(qemu_io, "read -P 0x71 0 1M", "read -P 0x72 1M 1M")


def test_a_unit_is_the_same_unit_after_a_crash(serve: Serve, tool: Tool) -> None:
    target = serve(PLAIN)
    client = Initiators(target, PLAIN)
    pages = ("128", "131")
    before = [client.libiscsi(tool("iscsi-inq"), "-e", "1", "-c", page) for page in pages]
    target.kill9()
    target.restart()
    assert [client.libiscsi(tool("iscsi-inq"), "-e", "1", "-c", page) for page in pages] == before


def test_a_read_only_unit_takes_no_write(initiators: Initiators, qemu_io: Path) -> None:
    refused = attempt([qemu_io, "-c", "write 0 4k", "--image-opts", initiators.image(unit=1)])
    assert refused.exit_code != 0
    run([qemu_io, "-r", "-c", "read -P 0 0 4k", "--image-opts", initiators.image(unit=1)])


def test_the_target_ends_by_itself_when_told_to(serve: Serve, qemu_io: Path) -> None:
    target = serve(PLAIN)
    Initiators(target, PLAIN).qemu_io(qemu_io, "write -P 0x44 0 4k")
    assert target.terminate() == 0
    assert "Traceback" not in target.errors
