"""FileStore: an image or a block device, and what the operating system may do to it."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iscsi_target.scsi.operations import BLOCKS, Extent, Fault, MediumError, Read, Write
from iscsi_target.storage import host
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.file import FileStore, Kind
from iscsi_target.storage.medium import Medium

MIB = 1 << 20
SIZE = 4 * MIB  # of the fixtures


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "small"
    where.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", where], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a file system")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def fault(call: Callable[[], object]) -> tuple[Fault, int | None]:
    with pytest.raises(MediumError) as caught:
        call()
    return caught.value.fault, caught.value.offset_bytes


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


# Reading and writing


def test_more_than_2_tib_is_sparse_and_addressable(image):
    size = 3 << 40
    store = FileStore.open(image, size_bytes=size, read_only=False)
    store.write(size - 4096, b"e" * 4096)
    assert store.read(size - 8192, 8192) == bytes(4096) + b"e" * 4096
    assert store.allocation(0, size) == [Extent(0, size - 4096, False), Extent(size - 4096, 4096, True)]
    store.discard(0, size)
    assert store.allocation(0, size) == [Extent(0, size, False)]
    store.close()


def test_partial_reads_and_writes_are_continued(store, monkeypatch):
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 7), offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, source, offset: pwrite(fd, source[:5], offset))
    store.write(100, bytearray(range(64)))
    assert store.read(98, 68) == bytes(2) + bytes(range(64)) + bytes(2)


def test_whoever_asked_is_told_before_an_image_comes_into_being(image):
    told = []
    store = FileStore.open(image, size_bytes=4096, read_only=False, creating=lambda: told.append(image.exists()))
    store.close()
    FileStore.open(image, size_bytes=4096, read_only=False, creating=lambda: told.append(image.exists())).close()
    assert told == [False]


def test_an_image_that_is_objected_to_does_not_come_into_being(image):
    def object_to_it() -> None:
        raise StorageError("not now", image, "wait")

    with pytest.raises(StorageError, match="not now"):
        FileStore.open(image, size_bytes=4096, read_only=False, creating=object_to_it)
    assert list(image.parent.iterdir()) == []


def test_a_read_only_store_refuses_every_change(image):
    image.write_bytes(b"r" * 4096)
    store = FileStore.open(image, size_bytes=None, read_only=True)
    assert store.read_only
    assert fault(lambda: store.write(512, b"x")) == (Fault.READ_ONLY, 512)
    assert fault(lambda: store.discard(0, 512)) == (Fault.READ_ONLY, 0)
    store.flush()
    assert store.read(0, 4096) == b"r" * 4096
    store.close()


def test_a_truncated_file_reads_no_zeros_and_does_not_grow_again(image, store):
    store.write(0, b"k" * SIZE)
    os.truncate(image, MIB + 100)
    assert store.read(MIB, 100) == b"k" * 100
    store.write(MIB, b"w" * 100)
    assert fault(lambda: store.read(MIB, 512)) == (Fault.TRUNCATED, MIB + 100)
    assert fault(lambda: store.read(2 * MIB, 512)) == (Fault.TRUNCATED, 2 * MIB)
    assert fault(lambda: store.write(MIB, b"x" * 512)) == (Fault.TRUNCATED, MIB + 100)
    assert fault(lambda: store.write(2 * MIB, b"x" * 512)) == (Fault.TRUNCATED, 2 * MIB)
    assert fault(lambda: store.discard(2 * MIB, 512)) == (Fault.TRUNCATED, 2 * MIB)
    assert fault(lambda: store.allocation(0, SIZE)) == (Fault.TRUNCATED, MIB + 100)
    assert store.attempt(Read(MIB, 512)) is BLOCKS
    assert image.stat().st_size == MIB + 100


@pytest.mark.parametrize(
    "number, expected",
    [
        (errno.ENOSPC, Fault.NO_SPACE),
        (errno.EDQUOT, Fault.NO_SPACE),
        (errno.EFBIG, Fault.NO_SPACE),
        (errno.EIO, Fault.WRITE_FAILED),
        (errno.EROFS, Fault.READ_ONLY),
        (errno.ENODEV, Fault.GONE),
        (errno.ENXIO, Fault.GONE),
    ],
)
def test_what_the_system_says_of_a_write_is_the_fault(store, monkeypatch, number, expected):
    monkeypatch.setattr(os, "pwrite", failing(number))
    assert fault(lambda: store.write(512, b"x")) == (expected, 512)


@pytest.mark.parametrize("number, expected", [(errno.EIO, Fault.READ_FAILED), (errno.ENXIO, Fault.GONE)])
def test_what_the_system_says_of_a_read_is_the_fault(store, monkeypatch, number, expected):
    monkeypatch.setattr(os, "pread", failing(number))
    assert fault(lambda: store.read(512, 512)) == (expected, 512)


def test_a_full_file_system_is_no_space_where_the_writing_stopped(small_file_system):
    store = FileStore.open(small_file_system / "unit0.img", size_bytes=8 * MIB, read_only=False)
    kind, offset = fault(lambda: store.write(0, b"f" * (2 * MIB)))
    assert kind is Fault.NO_SPACE
    assert offset is not None
    assert 0 < offset <= MIB
    store.discard(0, MIB)
    store.write(MIB, b"g" * 65536)
    assert store.read(MIB - 1, 2) == b"\0g"
    store.close()


def test_the_size_limit_of_the_process_is_no_space(image):
    program = """
import resource, sys
from iscsi_target.scsi.operations import MediumError
from iscsi_target.storage.file import FileStore
store = FileStore.open(sys.argv[1], size_bytes=1 << 20, read_only=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    store.write(65536 - 512, b"x" * 4096)
except MediumError as error:
    print(error.fault.name, error.offset_bytes)
"""
    command = [sys.executable, "-c", program, str(image)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "NO_SPACE 65536\n"


# Flush


def test_a_failed_flush_is_never_forgotten(image, store, monkeypatch):
    monkeypatch.setattr(os, "fdatasync", failing(errno.EIO))
    assert fault(store.flush) == (Fault.WRITE_FAILED, None)
    monkeypatch.undo()
    assert fault(store.flush) == (Fault.WRITE_FAILED, None)
    assert fault(lambda: Write(0, b"x", flush=True).perform(store)) == (Fault.WRITE_FAILED, None)
    store.write(0, b"y")
    assert store.read(0, 1) == b"y"


def test_a_flush_that_fails_fails_those_that_wait_for_it(store, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def fdatasync(_: int) -> None:
        begun.set()
        may_end.wait(10)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with ThreadPoolExecutor(3) as threads:
        flushes = [threads.submit(store.flush) for _ in range(3)]
        begun.wait(10)
        may_end.set()
        assert [fault(flush.result)[0] for flush in flushes] == [Fault.NO_SPACE] * 3


def test_flushes_that_wait_share_one_that_begins_after_their_writes(store, monkeypatch):
    begun, may_end = threading.Semaphore(0), threading.Semaphore(0)
    calls: list[int] = []

    def fdatasync(_: int) -> None:
        calls.append(store._flushes_begun)
        begun.release()
        may_end.acquire(timeout=10)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(store.flush)
        begun.acquire(timeout=10)
        waiting = [threads.submit(store.flush) for _ in range(4)]
        may_end.release()
        first.result(10)
        for _ in range(4):
            may_end.release()
        for flush in waiting:
            flush.result(10)
    assert 2 <= len(calls) <= 5
    store.flush()
    assert calls == list(range(1, len(calls) + 1))


# Discard and allocation


def test_discard_makes_a_hole_that_reads_as_zeros(store):
    store.write(0, b"d" * 65536)
    store.discard(8192, 16384)
    assert store.read(0, 65536) == b"d" * 8192 + bytes(16384) + b"d" * (65536 - 24576)
    assert store.allocation(0, 65536) == [
        Extent(0, 8192, True),
        Extent(8192, 16384, False),
        Extent(24576, 40960, True),
    ]
    assert store.allocation(4096, 8192) == [Extent(4096, 4096, True), Extent(8192, 4096, False)]


def test_discard_of_nothing_changes_nothing(store):
    store.write(0, b"n" * 512)
    store.discard(0, 0)
    assert store.read(0, 512) == b"n" * 512


def test_discard_writes_zeros_where_the_file_system_cannot_deallocate(store, monkeypatch):
    calls: list[int] = []

    def unsupported(*_: object, **__: object) -> None:
        calls.append(1)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(store, "_deallocators", (unsupported,))
    store.write(0, b"d" * SIZE)
    store.discard(512, 2 * MIB)
    store.discard(3 * MIB, 512)
    assert store.read(0, SIZE) == (b"d" * 512 + bytes(2 * MIB) + b"d" * (MIB - 512) + bytes(512) + b"d" * (MIB - 512))
    assert len(calls) == 1


def test_discard_falls_back_from_a_hole_to_a_zeroed_range(store, monkeypatch):
    unsupported = failing(errno.EOPNOTSUPP)
    monkeypatch.setattr(store, "_deallocators", (unsupported, host.zero_range))
    store.write(0, b"d" * 65536)
    store.discard(512, 4096)
    assert store.read(0, 8192) == b"d" * 512 + bytes(4096) + b"d" * (8192 - 4608)
    assert store._deallocators == (host.zero_range,)


def test_a_fault_while_deallocating_is_reported(store, monkeypatch):
    monkeypatch.setattr(store, "_deallocators", (failing(errno.ENOSPC),))
    assert fault(lambda: store.discard(512, 512)) == (Fault.NO_SPACE, 512)


def test_everything_is_allocated_where_the_file_system_does_not_tell(store, monkeypatch):
    monkeypatch.setattr(os, "lseek", failing(errno.EINVAL))
    assert store.allocation(512, 4096) == [Extent(512, 4096, True)]
    assert store.allocation(0, SIZE) == [Extent(0, SIZE, True)]


# Attempts


def test_a_read_that_is_not_in_the_cache_would_block(image, store):
    store.write(0, b"c" * MIB)
    if store.attempt(Read(0, 512)) is BLOCKS:
        pytest.skip("the file system cannot tell whether a read would block")
    store.flush()
    os.posix_fadvise(store._descriptor, 0, MIB, os.POSIX_FADV_DONTNEED)
    if store.attempt(Read(MIB // 2, 4096)) is not BLOCKS:
        pytest.skip("the kernel kept the pages, as it may")
    assert store.read(MIB // 2, 4096) == b"c" * 4096
    assert store.page_cache.again(Read(MIB // 2, 4096)) == b"c" * 4096
    assert store.attempt(Read(MIB // 2, 4096)) == b"c" * 4096


def test_a_read_only_store_attempts_no_write(image):
    image.write_bytes(b"r" * 4096)
    store = FileStore.open(image, size_bytes=None, read_only=True)
    assert store.attempt(Write(0, b"x" * 4096)) is BLOCKS
    store.close()


@pytest.mark.parametrize("call", [lambda s: s.write(0, b"x" * 512), lambda s: s.discard(0, 512), lambda s: s.flush()])
def test_while_a_thread_changes_or_flushes_a_store_no_write_is_attempted(store, monkeypatch, call):
    answers = []

    def attempt(*_: object, **__: object) -> int:
        answers.append(store.attempt(Write(4096, b"x" * 4096)))
        return 512

    for name in ("pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, attempt)
    monkeypatch.setattr(store, "_deallocators", (attempt,))
    call(store)
    assert answers == [BLOCKS]


async def test_a_medium_on_a_file_performs_in_threads_and_gives_up_the_lock(image):
    store = FileStore.open(image, size_bytes=SIZE, read_only=False)
    with ThreadPoolExecutor(2) as threads:
        medium = Medium(store, threads)
        assert medium.size_bytes == SIZE
        assert medium.attempt(Write(512, b"m" * 512, flush=True)) is BLOCKS
        assert await medium.perform(Write(512, b"m" * 512, flush=True)) is None
        assert await medium.perform(Read(0, 1024)) == bytes(512) + b"m" * 512
        await medium.close()
    FileStore.open(image, size_bytes=SIZE, read_only=False).close()


# Block devices


def test_a_block_device_is_read_written_and_discarded(device):
    store = FileStore.open(device, size_bytes=None, read_only=False)
    assert store.kind is Kind.BLOCK_DEVICE
    assert store.size_bytes == SIZE
    store.write(100, b"b" * 65536)
    store.discard(4096, 8192)
    store.discard(100, 412)
    store.flush()
    assert store.read(0, 16384) == bytes(512) + b"b" * 3584 + bytes(8192) + b"b" * 4096
    assert store.allocation(0, SIZE) == [Extent(0, SIZE, True)]
    store.close()
    store = FileStore.open(device, size_bytes=SIZE, read_only=True)
    assert store.read(512, 1) == b"b"
    store.close()


def test_a_block_device_that_became_smaller_is_truncated(device, monkeypatch):
    store = FileStore.open(device, size_bytes=None, read_only=False)
    os.truncate(device_backing(device), MIB)
    subprocess.run(["losetup", "--set-capacity", device], check=True)
    assert fault(lambda: store.read(2 * MIB, 512)) == (Fault.TRUNCATED, 2 * MIB)
    assert fault(lambda: store.write(2 * MIB, b"x" * 512)) == (Fault.TRUNCATED, 2 * MIB)
    assert fault(lambda: store.discard(2 * MIB, 4096)) == (Fault.TRUNCATED, 2 * MIB)
    store.close()


def device_backing(device: Path) -> str:
    command = ["losetup", "--noheadings", "--output", "BACK-FILE", str(device)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_an_image_grows_on_stable_storage_and_reads_zeros_there(image, store, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    store.write(SIZE - 512, b"x" * 512)
    store.grow(2 * SIZE)
    assert (store.size_bytes, image.stat().st_size, synced) == (2 * SIZE, 2 * SIZE, [2 * SIZE])
    assert store.read(SIZE - 512, 1024) == b"x" * 512 + bytes(512)
    store.write(2 * SIZE - 512, b"y" * 512)
    assert store.read(2 * SIZE - 512, 512) == b"y" * 512


def test_an_image_that_was_made_longer_is_taken_as_it_is(image, store):
    os.truncate(image, 2 * SIZE)
    assert store.size_bytes == SIZE
    store.grow(None)
    assert store.size_bytes == 2 * SIZE


def test_an_image_of_the_size_that_is_wanted_stays(image, store):
    for size in (SIZE, None):
        store.grow(size)
        assert store.size_bytes == image.stat().st_size == SIZE


def test_nothing_becomes_smaller(image, store):
    with pytest.raises(StorageError, match=f"cannot become smaller than {SIZE} bytes"):
        store.grow(SIZE - 512)
    assert store.size_bytes == image.stat().st_size == SIZE


def test_an_image_that_was_cut_off_stays_as_long_as_it_was_said_to_be(image, store):
    os.truncate(image, SIZE - 512)
    store.grow(None)
    assert store.size_bytes == SIZE
    with pytest.raises(MediumError) as failed:
        store.read(SIZE - 512, 512)
    assert failed.value.fault is Fault.TRUNCATED


def test_an_image_that_is_only_read_is_not_made_longer(image, store):
    store.close()
    store = FileStore.open(image, size_bytes=None, read_only=True)  # the fixture closes a descriptor of this number
    with pytest.raises(StorageError, match="it has not"):
        store.grow(2 * SIZE)
    assert store.size_bytes == SIZE


def test_an_image_that_cannot_be_made_longer_stays(image, store, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(StorageError, match="cannot make it longer"):
        store.grow(2 * SIZE)
    assert store.size_bytes == SIZE


def test_a_device_is_taken_as_long_as_it_is(device):
    store = FileStore.open(device, size_bytes=None, read_only=False)
    with pytest.raises(StorageError, match="it has not"):
        store.grow(2 * SIZE)
    store.grow(None)
    assert store.size_bytes == SIZE
    store.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_an_image_that_is_gone_or_another_one_is_not_made_longer(image, store, replaced):
    image.unlink()
    if replaced:
        image.write_bytes(bytes(SIZE))
    with pytest.raises(StorageError, match="not there any more"):
        store.grow(2 * SIZE)
    assert store.size_bytes == SIZE
    store.grow(SIZE)
