"""PageCache: what is done on the event loop, and what is left to a thread."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iscsi_target.scsi.operations import BLOCKS, Flush, Read, Write
from iscsi_target.storage import host
from iscsi_target.storage.pace import STALL_S, Pace
from iscsi_target.storage.page_cache import INLINE_LIMIT_BYTES, MISSES_S, VAIN_REST, PageCache

MIB = 1 << 20
SIZE = 4 * MIB
PAGE = 4096
EXT4, TMPFS, BTRFS, NFS, FUSE, OVERLAY = 0xEF53, 0x01021994, 0x9123683E, 0x6969, 0x65735546, 0x794C7630

Make = Callable[..., PageCache]


class Clock:
    """Stands still unless a test moves it, or lets it move with every look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "unit0.img", os.O_RDWR | os.O_CREAT)
    os.pwrite(opened, b"c" * SIZE, 0)
    yield opened
    os.close(opened)


@pytest.fixture
def make(descriptor: int, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the PageCache of a file of SIZE bytes on a file system that knows RWF_NOWAIT or does not."""

    def made(system: int = EXT4, *, nowait: bool = False, writable: bool = True) -> PageCache:
        preadv, pwritev = os.preadv, os.pwritev

        def refuse(*_: object) -> int:
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(host, "file_system", lambda _: system)
        plain_read = lambda fd, buffers, offset, flags: preadv(fd, buffers, offset)  # noqa: E731 # beside its twin
        plain_write = lambda fd, buffers, offset, flags: pwritev(fd, buffers, offset)  # noqa: E731 # beside its twin
        monkeypatch.setattr(os, "preadv", refuse if system == TMPFS else plain_read)
        monkeypatch.setattr(os, "pwritev", plain_write if nowait else refuse)
        cache = PageCache(descriptor, Pace(clock, lambda: 0), writable=writable)
        if not nowait:  # which the first write finds out
            cache.attempt(Write(0, b"c" * PAGE))
        return cache

    return made


def contents(descriptor: int, offset: int = 0, length: int = PAGE) -> bytes:
    return os.pread(descriptor, length, offset)


# Reads


@pytest.mark.parametrize("system", [EXT4, TMPFS, NFS])
def test_what_is_cached_is_read(make, system):
    cache = make(system)
    assert cache.attempt(Read(512, 1024)) == b"c" * 1024
    assert cache.attempt(Read(0, INLINE_LIMIT_BYTES)) == b"c" * INLINE_LIMIT_BYTES


@pytest.mark.parametrize("system", [EXT4, TMPFS])
def test_a_long_read_or_one_with_a_flush_is_left_to_a_thread(make, system):
    cache = make(system)
    assert cache.attempt(Read(0, INLINE_LIMIT_BYTES + 512)) is BLOCKS
    assert cache.attempt(Read(0, 512, flush=True)) is BLOCKS


@pytest.mark.parametrize("system", [EXT4, TMPFS])
def test_a_read_beyond_a_truncated_end_is_left_to_a_thread(make, descriptor, system):
    cache = make(system)
    os.ftruncate(descriptor, MIB)
    assert cache.attempt(Read(MIB - 512, 1024)) is BLOCKS


@pytest.mark.parametrize("number, asked", [(errno.EOPNOTSUPP, 1), (errno.EAGAIN, 3), (errno.EIO, 3)])
def test_only_a_file_system_that_cannot_read_without_waiting_is_not_asked_again(make, monkeypatch, number, asked):
    cache = make(EXT4)
    calls: list[int] = []

    def preadv(*_: object) -> int:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", preadv)
    for place in (0, 512, 1024):
        assert cache.attempt(Read(place, 512)) is BLOCKS
    assert len(calls) == asked


def misses(monkeypatch: pytest.MonkeyPatch, took: Callable[[], None] = lambda: None) -> list[int]:
    """Lets every read miss; returns a list that fills with the places that were asked for."""
    asked: list[int] = []

    def miss(*arguments: Any) -> int:
        asked.append(arguments[2])
        took()
        raise BlockingIOError(errno.EAGAIN, "not cached")

    monkeypatch.setattr(os, "preadv", miss)
    return asked


def test_a_read_that_has_missed_is_not_tried_again_before_it_is_asked_for_again(make, monkeypatch):
    cache = make(EXT4)
    preadv = os.preadv
    asked = misses(monkeypatch)
    for place in (0, 0, 0, 512, 512, 512):
        assert cache.attempt(Read(place, 512)) is BLOCKS
    assert asked == [0, 512]
    assert cache.again(Read(0, 512)) is BLOCKS
    monkeypatch.setattr(os, "preadv", preadv)
    assert cache.attempt(Read(512, 512)) == b"c" * 512
    assert cache.again(Read(0, 512)) == b"c" * 512


def test_misses_take_their_share_of_a_turn_of_the_event_loop(make, clock, monkeypatch):
    cache = make(EXT4)

    def take() -> None:
        clock.now += MISSES_S / 2.5

    asked = misses(monkeypatch, take)
    for _ in range(3):
        for place in range(0, SIZE, 512):
            assert cache.attempt(Read(place, 512)) is BLOCKS
        assert asked == [0, 512, 1024]
        asked.clear()
        assert cache.again(Read(0, 512)) is BLOCKS
        asked.clear()


def test_threads_read_for_a_multiple_of_what_was_waited_in_vain(make, clock, monkeypatch):
    cache = make(EXT4)
    asked = misses(monkeypatch)
    assert cache.attempt(Read(0, 512)) is BLOCKS
    assert cache.awaits(Read(0, 512))
    cache.waited_in_vain(0.001)
    for passed, waits in ((0.0005, False), (VAIN_REST * 0.001 - 0.0006, False), (0.0002, True)):
        clock.now += passed
        asked.clear()
        assert cache.attempt(Read(512, 512)) is BLOCKS
        assert cache.awaits(Read(512, 512)) is waits
        assert asked == [512] * waits


@pytest.mark.parametrize("system", [EXT4, TMPFS])
def test_only_what_the_kernel_fetches_by_itself_is_awaited(make, system):
    cache = make(system)
    assert cache.awaits(Read(0, INLINE_LIMIT_BYTES)) is (system == EXT4)
    for operation in (Read(0, INLINE_LIMIT_BYTES + 1), Read(0, 512, flush=True), Write(0, b"c" * PAGE), Flush()):
        assert not cache.awaits(operation)


def test_nothing_is_awaited_of_a_file_system_that_cannot_read_without_waiting(make, monkeypatch):
    cache = make(NFS)

    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "preadv", refuse)
    assert cache.attempt(Read(0, 512)) is BLOCKS
    assert not cache.awaits(Read(0, 512))


def test_hits_are_read_at_once_however_long_they_take(make, clock):
    cache = make(EXT4)
    clock.step = 0.001
    for _ in range(10):
        assert cache.attempt(Read(0, 512)) == b"c" * 512


def test_a_read_fault_in_memory_is_left_to_a_thread(make, monkeypatch):
    cache = make(TMPFS)

    def pread(*_: object) -> bytes:
        raise OSError(errno.EIO, "bad")

    monkeypatch.setattr(os, "pread", pread)
    assert cache.attempt(Read(0, 512)) is BLOCKS


def test_memory_that_was_swapped_out_is_read_by_threads_for_a_while(make, clock):
    cache = make(TMPFS)
    clock.step = 2 * STALL_S
    assert cache.attempt(Read(0, 512)) == b"c" * 512
    clock.step = 0.0
    assert cache.attempt(Read(0, 512)) is BLOCKS
    clock.now += 10
    assert cache.attempt(Read(0, 512)) == b"c" * 512


# Writes


@pytest.mark.parametrize("nowait", [True, False])
def test_whole_pages_are_written(make, descriptor, nowait):
    cache = make(EXT4, nowait=nowait)
    assert cache.attempt(Write(PAGE, memoryview(b"w" * 2 * PAGE))) is None
    assert contents(descriptor, 0, 4 * PAGE) == b"c" * PAGE + b"w" * 2 * PAGE + b"c" * PAGE


@pytest.mark.parametrize("nowait", [True, False])
def test_a_long_write_or_one_with_a_flush_is_left_to_a_thread(make, descriptor, nowait):
    cache = make(EXT4, nowait=nowait)
    assert cache.attempt(Write(0, b"w" * (INLINE_LIMIT_BYTES + PAGE))) is BLOCKS
    assert cache.attempt(Write(0, b"w" * PAGE, flush=True)) is BLOCKS
    assert cache.attempt(Flush()) is BLOCKS
    assert contents(descriptor) == b"c" * PAGE


@pytest.mark.parametrize("system, taken", [(EXT4, False), (TMPFS, True)])
@pytest.mark.parametrize("offset, length", [(0, 512), (512, PAGE)])
def test_a_part_of_a_page_is_written_only_where_it_need_not_be_read_first(make, system, taken, offset, length):
    cache = make(system)
    assert (cache.attempt(Write(offset, b"w" * length)) is None) is taken


def test_a_part_of_a_page_is_left_to_a_kernel_that_does_not_wait(make, descriptor):
    cache = make(EXT4, nowait=True)
    assert cache.attempt(Write(512, b"w" * 512)) is None
    assert contents(descriptor) == b"c" * 512 + b"w" * 512 + b"c" * (PAGE - 1024)


@pytest.mark.parametrize("system", [NFS, FUSE, OVERLAY])
def test_a_file_system_that_is_not_known_to_be_local_is_written_by_threads(make, descriptor, system):
    cache = make(system, nowait=True)
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
    assert contents(descriptor) == b"c" * PAGE


@pytest.mark.parametrize("nowait", [True, False])
def test_btrfs_is_written_only_when_it_says_that_it_need_not_wait(make, nowait):
    cache = make(BTRFS, nowait=nowait)
    assert (cache.attempt(Write(0, b"w" * PAGE)) is None) is nowait


def test_a_store_that_is_not_writable_is_not_written(make, descriptor):
    cache = make(EXT4, writable=False)
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
    assert contents(descriptor) == b"c" * PAGE


def test_while_a_thread_changes_the_store_threads_write(make):
    cache = make(EXT4)
    with cache.change():
        with cache.change():
            assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
        assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
        assert cache.attempt(Read(0, 512)) == b"c" * 512
    assert cache.attempt(Write(0, b"w" * PAGE)) is None


@pytest.mark.parametrize("nowait", [True, False])
def test_a_truncated_file_does_not_grow_again(make, descriptor, nowait):
    cache = make(EXT4, nowait=nowait)
    os.ftruncate(descriptor, MIB)
    assert cache.attempt(Write(MIB, b"w" * PAGE)) is BLOCKS
    assert cache.attempt(Write(MIB - PAGE, b"w" * 2 * PAGE)) is BLOCKS
    assert cache.attempt(Write(MIB - PAGE, b"w" * PAGE)) is None
    assert os.fstat(descriptor).st_size == MIB


def test_after_a_write_that_stalled_threads_write_for_a_while(make, clock):
    cache = make(EXT4)
    clock.step = 2 * STALL_S
    assert cache.attempt(Write(0, b"w" * PAGE)) is None
    clock.step = 0.0
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
    assert cache.attempt(Read(0, 512)) == b"w" * 512
    clock.now += 10
    assert cache.attempt(Write(0, b"w" * PAGE)) is None


@pytest.mark.parametrize("number, asked", [(errno.EOPNOTSUPP, 1), (errno.EAGAIN, 3), (errno.ENOSPC, 3)])
def test_only_a_file_system_that_cannot_write_without_waiting_is_not_asked_again(make, monkeypatch, number, asked):
    cache = make(EXT4, nowait=True)
    calls: list[int] = []

    def pwritev(*_: object) -> int:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", pwritev)
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS
    for _ in range(2):
        assert (cache.attempt(Write(0, b"w" * PAGE)) is None) is (number == errno.EOPNOTSUPP)
    assert len(calls) == asked


@pytest.mark.parametrize("nowait, call", [(True, "pwritev"), (False, "pwrite")])
def test_a_write_that_was_cut_short_is_left_to_a_thread(make, monkeypatch, nowait, call):
    cache = make(EXT4, nowait=nowait)
    monkeypatch.setattr(os, call, lambda *_: 512)
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS


def test_a_write_fault_is_left_to_a_thread(make, monkeypatch):
    cache = make(EXT4)

    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert cache.attempt(Write(0, b"w" * PAGE)) is BLOCKS


def test_a_block_device_is_written_in_whole_pages(device, clock):
    descriptor = os.open(device, os.O_RDWR)
    cache = PageCache(descriptor, Pace(clock, lambda: 0), writable=True)
    cache.attempt(Write(0, bytes(PAGE)))
    assert cache.attempt(Write(PAGE, b"w" * PAGE)) is None
    assert cache.attempt(Write(512, b"w" * 512)) is BLOCKS
    assert contents(descriptor, 0, 3 * PAGE) == bytes(PAGE) + b"w" * PAGE + bytes(PAGE)
    os.close(descriptor)
