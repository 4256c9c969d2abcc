"""The undo file, and atomic writes that end in the middle: FileStore with an UndoFile, stopped at every system call."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iscsi_target.scsi.operations import Erase, Fault, MediumError, WouldBlock, Write, WriteSame
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.file import FileStore
from iscsi_target.storage.undo import FileIdentity, Undo, UndoFile

SIZE = 64 << 10
OFFSET, LENGTH = 4096, 8192
OLD, NEW = b"o" * LENGTH, b"n" * LENGTH
UNDO = Undo(FileIdentity(1, 2), OFFSET, OLD)


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "u.undo"


def opened(image: Path, path: Path) -> FileStore:
    return FileStore.open(image, size_bytes=SIZE, read_only=False, undo=UndoFile(path))


@pytest.fixture
def image(tmp_path: Path, path: Path) -> Path:
    image = tmp_path / "u.img"
    store = opened(image, path)
    store.write(OFFSET, OLD)
    store.close()
    return image


# The file


def test_what_is_kept_is_pending_until_it_is_forgotten(path: Path):
    undo = UndoFile(path)
    assert undo.pending() is None
    assert not path.exists()
    undo.keep(UNDO)
    undo.close()
    again = UndoFile(path)
    assert again.pending() == UNDO
    again.forget()
    assert again.pending() is None
    again.close()


def test_a_shorter_record_takes_the_place_of_a_longer_one(path: Path):
    undo = UndoFile(path)
    undo.keep(UNDO)
    undo.keep(UNDO._replace(data=b"x"))
    assert undo.pending() == UNDO._replace(data=b"x")
    undo.close()


def test_a_record_that_is_not_whole_is_none(path: Path):
    undo = UndoFile(path)
    undo.keep(UNDO)
    undo.close()
    whole = path.read_bytes()
    for length in (0, 7, 39, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        damaged = UndoFile(path)
        assert damaged.pending() is None
        damaged.close()
    for place in (0, 8, 20, 30, 36, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        damaged = UndoFile(path)
        assert damaged.pending() is None
        damaged.close()


def test_what_the_range_held_is_not_kept_when_it_is_forgotten(image: Path, path: Path):
    store = opened(image, path)
    store.write(OFFSET, b"secret".ljust(512, b"!"))
    store.write_atomic(OFFSET, NEW)
    assert path.read_bytes() == b""
    store.close()


# Atomic writes


def test_an_atomic_write_is_there_and_nothing_is_to_be_undone(image: Path, path: Path):
    store = opened(image, path)
    store.write_atomic(OFFSET, NEW)
    assert store.read(OFFSET, LENGTH) == NEW
    store.close()
    assert UndoFile(path).pending() is None


def stopping_at(monkeypatch: pytest.MonkeyPatch, step: int, failure: Callable[[], BaseException]) -> Iterator[int]:
    """Makes the call of that number to write, to cut or to flush fail, a write after a half of it; later ones as well.

    yields   once; afterwards the number of calls that there were
    """
    calls = 0
    pwrite, fdatasync, ftruncate = os.pwrite, os.fdatasync, os.ftruncate

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > step

    def half(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        if stop():
            pwrite(descriptor, data[: len(data) // 2], offset)
            raise failure()
        return pwrite(descriptor, data, offset)

    def flush(descriptor: int) -> None:
        if stop():
            raise failure()
        fdatasync(descriptor)

    def cut(descriptor: int, length: int) -> None:
        if stop():
            raise failure()
        ftruncate(descriptor, length)

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", half)
        broken.setattr(os, "ftruncate", cut)
        broken.setattr(os, "fdatasync", flush)
        broken.setattr(os, "fsync", flush)
        yield 0
    yield calls


@pytest.mark.parametrize("step", range(8))
def test_a_process_that_ends_at_any_step_leaves_all_or_nothing(image, path, monkeypatch, step):
    store = opened(image, path)
    stopping = stopping_at(monkeypatch, step, Crash)
    next(stopping)
    ended = False
    try:
        store.write_atomic(OFFSET, NEW)
        ended = True
    except Crash:
        pass
    calls = next(stopping)
    assert ended == (calls <= step)
    assert calls == min(step + 1, 7)
    store.close()
    again = opened(image, path)
    found = again.read(OFFSET, LENGTH)
    assert found == (NEW if ended else found)
    assert found in (OLD, NEW)
    assert again.read(0, OFFSET) + again.read(OFFSET + LENGTH, SIZE - OFFSET - LENGTH) == bytes(SIZE - LENGTH)
    again.close()
    assert UndoFile(path).pending() is None


@pytest.mark.parametrize("step", range(7))
def test_a_disk_that_fails_from_any_step_on_is_an_error_and_the_next_start_finds_all_or_nothing(
    image, path, monkeypatch, step
):
    store = opened(image, path)
    stopping = stopping_at(monkeypatch, step, lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    next(stopping)
    with pytest.raises(MediumError) as failed:
        store.write_atomic(OFFSET, NEW)
    next(stopping)
    assert failed.value.fault is Fault.WRITE_FAILED
    store.close()
    again = opened(image, path)
    assert again.read(OFFSET, LENGTH) in (OLD, NEW)
    again.close()


def test_a_full_disk_is_undone_at_once(image, path, monkeypatch):
    store = opened(image, path)
    pwrite, left = os.pwrite, [True]

    def full(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        if bytes(data[:1]) == b"n" and left.pop():
            pwrite(descriptor, data[:100], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(MediumError) as failed:
            store.write_atomic(OFFSET, NEW)
    assert failed.value.fault is Fault.NO_SPACE
    assert store.read(OFFSET, LENGTH) == OLD
    store.close()
    assert UndoFile(path).pending() is None


def test_another_file_in_the_place_is_not_changed(image, path, caplog):
    store = opened(image, path)
    identity = FileIdentity.of(store._descriptor)
    store.close()
    undo = UndoFile(path)
    undo.keep(Undo(identity._replace(number=identity.number + 1), OFFSET, b"x" * LENGTH))
    undo.close()
    again = opened(image, path)
    assert again.read(OFFSET, LENGTH) == OLD
    again.close()
    assert "that is torn" in caplog.text
    assert UndoFile(path).pending() is None


def test_a_new_image_of_the_same_inode_number_is_not_changed(image, path):
    store = opened(image, path)
    undo = UndoFile(path)
    undo.keep(Undo(FileIdentity.of(store._descriptor), OFFSET, b"x" * LENGTH))
    undo.close()
    store.close()
    for _ in range(20):
        image.unlink()
        again = opened(image, path)
        assert again.read(OFFSET, LENGTH) == bytes(LENGTH)
        again.close()
        reopened = opened(image, path)
        assert reopened.read(OFFSET, LENGTH) == bytes(LENGTH)
        reopened.close()


def test_an_image_that_was_cut_off_is_not_made_longer(image, path, caplog):
    store = opened(image, path)
    undo = UndoFile(path)
    undo.keep(Undo(FileIdentity.of(store._descriptor), SIZE - 512, b"x" * 512))
    undo.close()
    store.close()
    os.truncate(image, SIZE - 512)
    again = FileStore.open(image, size_bytes=None, read_only=False, undo=UndoFile(path))
    assert image.stat().st_size == SIZE - 512
    assert "that is torn" in caplog.text
    again.close()


def test_a_write_that_cannot_be_undone_is_an_error_and_undone_later(image, path, monkeypatch):
    store = opened(image, path)
    undo = UndoFile(path)
    undo.keep(Undo(FileIdentity.of(store._descriptor), OFFSET, NEW))
    undo.close()
    store.close()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
        with pytest.raises(StorageError, match="an atomic write cannot be undone"):
            opened(image, path)
    again = opened(image, path)  # so its lock was given up
    assert again.read(OFFSET, LENGTH) == NEW
    again.close()


@pytest.mark.parametrize("step", range(3, 7))
def test_nothing_is_written_to_a_store_with_a_write_that_is_still_to_be_undone(image, path, monkeypatch, step):
    """Law: what was acknowledged is not undone at the next start: SANITIZE and later writes fail until then."""
    store = opened(image, path)
    stopping = stopping_at(monkeypatch, step, lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    next(stopping)
    with pytest.raises(MediumError):
        store.write_atomic(OFFSET, NEW)
    next(stopping)
    store._flush_failure = None  # which would refuse it too, but not when only writing fails
    for change in (Erase(0, SIZE, True), Write(0, bytes(512), True), WriteSame(0, SIZE, bytes(512))):
        with pytest.raises(MediumError):
            store.perform(change)
    assert store.attempt(Write(0, bytes(512))) is WouldBlock.BLOCKS
    store.close()
    again = opened(image, path)
    again.perform(Erase(0, SIZE, True))
    again.close()
