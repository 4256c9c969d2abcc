"""A store on a regular file or on a block device, through the page cache of the system.

Through the page cache, because most reads of a unit are then answered without a thread and without waiting,
and because a page cache needs no aligned buffers. A write is on stable storage after a flush, not before.

A discard must read as zeros afterwards, so a device is never asked to discard (BLKDISCARD promises nothing
about what is read then): `fallocate` punches the hole on files and devices alike, and on devices the kernel
lets it deallocate only where the device promises zeros. Where it cannot, zeros are written.

A flush that failed is final. The system reports a failed write-back once and then marks the lost pages
clean, so a second `fdatasync` would succeed for data that is not there. Every flush fails from then on,
until the store is opened anew.

A store never changes its size: a file that somebody truncated answers TRUNCATED beyond its new end, for
reads and for writes, which would make it grow again with zeros in between.
"""

import contextlib
import errno
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from iscsi_target.scsi.operations import (
    MAX_EXTENTS,
    Buffer,
    Extent,
    Fault,
    MediumError,
    Operation,
    Outcome,
)
from iscsi_target.storage import host
from iscsi_target.storage.faults import StorageError, medium_error, refusal
from iscsi_target.storage.pace import Pace
from iscsi_target.storage.page_cache import PageCache
from iscsi_target.storage.undo import FileIdentity, Undo, UndoFile

log = logging.getLogger(__name__)

ZEROS_BYTES = 1 << 20  # of one write of zeros where nothing can be deallocated
DEVICE_LOCK_TRIES = 20  # udev locks a device for a moment whenever it looks at it
DEVICE_LOCK_PAUSE_S = 0.1

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)
_ZEROS = memoryview(bytes(ZEROS_BYTES))


class _Deallocator(Protocol):
    def __call__(self, descriptor: int, offset_bytes: int, *, length_bytes: int) -> None: ...


def _nothing() -> None:
    """Does nothing."""


class Kind(Enum):
    """What lies under a path."""

    REGULAR_FILE = "regular file"
    BLOCK_DEVICE = "block device"


class _Opened(NamedTuple):
    where: Path
    descriptor: int
    kind: Kind
    size_bytes: int
    read_only: bool


class FileStore:
    """A store on an open file or block device, locked against every other user that locks.

    All methods but `attempt`, which is that of its PageCache, may block; any thread may call them.

    page_cache   what an event loop may do with it
    """

    def __init__(self, opened: _Opened, undo: UndoFile | None = None) -> None:
        self._where = opened.where
        self._descriptor = opened.descriptor
        self._kind = opened.kind
        self._size_bytes = opened.size_bytes
        self._read_only = opened.read_only
        self._maps_allocation = opened.kind is Kind.REGULAR_FILE
        self._deallocators: tuple[_Deallocator, ...] = (host.punch_hole, host.zero_range)
        self._flushing = threading.Lock()
        self._flushes_begun = 0
        self._flushes_ended = 0
        self._flush_failure: MediumError | None = None
        self.page_cache = PageCache(opened.descriptor, Pace(), writable=not opened.read_only)
        self.attempt = self.page_cache.attempt
        self._undo = None if opened.read_only else undo
        self._undoing = threading.Lock()
        self._is_torn = False  # by an atomic write that is to be undone when the store is opened again

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        size_bytes: int | None,
        read_only: bool,
        creating: Callable[[], None] = _nothing,
        undo: UndoFile | None = None,
    ) -> "FileStore":
        """Opens an image or a block device; creates a sparse image when nothing is there and a size is given.

        size_bytes   1 or more: what a device must have; a shorter image is made that long, or created; None takes the
                     size of what is there
        read_only    True shares the lock with other readers and never creates
        creating     called before a created image comes into being; what it raises prevents that
        undo         for atomic writes; one that had not ended is undone
        returns      the store, locked; a created image is on stable storage, its directory entry included
        raises       StorageError when it is missing, in use, not accessible, of another size or kind
        """
        where = Path(os.path.realpath(path))
        try:
            if where.exists():
                store = cls(_open(where, size_bytes, read_only), undo)
                store._undo_unfinished()
                store._reach(size_bytes)
                return store
            if read_only or size_bytes is None:
                remedy = "correct the path, or give a size (without read_only) to have it created"
                raise StorageError("there is no such image", where, remedy)
            if undo is not None:
                undo.drop()
            return cls(_create(where, size_bytes, creating), undo)
        except OSError as error:
            raise refusal("open it", where, error) from error

    @property
    def size_bytes(self) -> int:
        """The length of the store, as it was when opened or last grown."""
        return self._size_bytes

    @property
    def read_only(self) -> bool:
        """True when every change is refused with Fault.READ_ONLY."""
        return self._read_only

    @property
    def identity(self) -> str:
        """Which file or device it is; another one in its place has another identity, as far as the system tells."""
        return "-".join(f"{part:x}" for part in FileIdentity.of(self._descriptor))

    @property
    def kind(self) -> Kind:
        """What the store lies on."""
        return self._kind

    def perform(self, operation: Operation) -> Outcome:
        """Performs the operation; raises MediumError."""
        return operation.perform(self)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Returns exactly length_bytes; a hole reads as zeros, what is beyond a truncated end does not."""
        self._check(offset_bytes, length_bytes)
        parts: list[bytes] = []
        position, end = offset_bytes, offset_bytes + length_bytes
        while position < end:
            try:
                part = os.pread(self._descriptor, end - position, position)
            except OSError as error:
                raise medium_error(error, Fault.READ_FAILED, position) from error
            if not part:
                raise MediumError(Fault.TRUNCATED, position)
            parts.append(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data; raises MediumError at the first byte that is not written."""
        self._admit_change(offset_bytes, len(data))
        with self.page_cache.change():
            self._write_all(offset_bytes, memoryview(data))

    def write_atomic(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data, which is on stable storage then, or leaves the store as it was, whatever happens.

        What cannot be undone at once, because the medium fails that too, is undone when the store is opened again.
        Until then every change is refused, since it would be undone with it.
        """
        self._admit_change(offset_bytes, len(data))
        assert self._undo is not None
        with self.page_cache.change(), self._undoing:
            before = self.read(offset_bytes, len(data))
            try:
                self._undo.keep(Undo(FileIdentity.of(self._descriptor), offset_bytes, before))
                try:
                    self._write_all(offset_bytes, memoryview(data))
                    self.flush()
                except MediumError:
                    self._end_atomic(offset_bytes, before)
                    raise
                self._end_atomic(offset_bytes, b"")
            except OSError as error:
                raise medium_error(error, Fault.WRITE_FAILED, offset_bytes) from error

    def _end_atomic(self, offset_bytes: int, before: Buffer) -> None:
        """Brings back what was there before, if anything, and says durably that there is nothing to undo any more."""
        assert self._undo is not None
        try:
            if before:
                self._write_all(offset_bytes, memoryview(before))
                self.flush()
            self._undo.forget()
        except (OSError, MediumError):
            self._is_torn = True
            self.page_cache.refuse_writes()
            log.error(
                "%s: an atomic write cannot be undone; it is not written any more until it is opened anew", self._where
            )
            raise

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Deallocates the range as far as the system can; it reads as zeros afterwards in any case."""
        self._admit_change(offset_bytes, length_bytes)
        if length_bytes:
            with self.page_cache.change():
                self._discard(offset_bytes, length_bytes)

    def _discard(self, offset_bytes: int, length_bytes: int) -> None:
        for deallocate in self._deallocators:
            try:
                deallocate(self._descriptor, offset_bytes, length_bytes=length_bytes)
                return
            except OSError as error:
                if error.errno in _UNSUPPORTED:
                    self._deallocators = tuple(each for each in self._deallocators if each is not deallocate)
                elif error.errno != errno.EINVAL:  # a part of a device's sector can only be written
                    raise self._change_failed(error, offset_bytes) from error
        self._write_zeros(offset_bytes, length_bytes)

    def flush(self) -> None:
        """Returns when everything written before is on stable storage.

        Callers that wait for a flush to end share the next one, which covers what all of them have written.
        """
        if self._read_only:
            return
        wanted = self._flushes_begun + 1  # one that is under way now may have missed the caller's last write
        with self.page_cache.change(), self._flushing:
            if self._flush_failure is not None:
                raise MediumError(self._flush_failure.fault)
            if self._flushes_ended >= wanted:
                return
            self._flushes_begun += 1
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._flush_failure = medium_error(error, Fault.WRITE_FAILED)
                raise self._flush_failure from error
            self._flushes_ended = self._flushes_begun

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        """Returns extents from offset_bytes on, adjoining, in order, at most MAX_EXTENTS, none empty.

        Everything is allocated on a device and on a file system that does not tell. Extents begin and end
        where those of the file system do, which need not be a boundary of the unit's logical blocks.
        """
        self._check(offset_bytes, length_bytes)
        if self._kind is Kind.REGULAR_FILE:
            self._check_not_truncated(offset_bytes, length_bytes)
        if not self._maps_allocation:
            return [Extent(offset_bytes, length_bytes, True)] if length_bytes else []
        end_bytes = offset_bytes + length_bytes
        found: list[Extent] = []
        position = offset_bytes
        allocated = False
        while position < end_bytes and len(found) < MAX_EXTENTS:
            # After a hole comes data, after data a hole; an empty run only says which of them is here.
            after = min(self._seek(position, os.SEEK_HOLE if allocated else os.SEEK_DATA), end_bytes)
            if after > position:
                found.append(Extent(position, after - position, allocated))
            position, allocated = after, not allocated
        return found

    def grow(self, size_bytes: int | None) -> None:
        """Makes the image longer, which is on stable storage then; a device must have become that long by itself.

        size_bytes   None takes what is there now
        raises       StorageError as declared by `Backend`
        """
        try:
            there = _size_of(self._descriptor, self._kind)
            wanted = max(there, self._size_bytes) if size_bytes is None else size_bytes
            if wanted < self._size_bytes:
                remedy = f"set the size to {self._size_bytes} or more, or stop the server to make it smaller"
                raise StorageError(f"it cannot become smaller than {self._size_bytes} bytes", self._where, remedy)
            if wanted > self._size_bytes and not self._is_in_place():
                raise StorageError("what is served is not there any more", self._where, "put it back")
            if wanted > max(there, self._size_bytes):
                self._lengthen(wanted)
        except OSError as error:
            raise refusal("make it longer", self._where, error) from error
        self._size_bytes = wanted

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._where.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _lengthen(self, size_bytes: int) -> None:
        if self._kind is Kind.BLOCK_DEVICE or self._read_only:
            remedy = "make it longer first, or leave the size out"
            raise StorageError(f"it has not {size_bytes} bytes", self._where, remedy)
        with self.page_cache.change():
            os.ftruncate(self._descriptor, size_bytes)
            os.fsync(self._descriptor)

    def _reach(self, size_bytes: int | None) -> None:
        """Makes an image that was just opened as long as it is to be; the store is closed when that fails."""
        if size_bytes is None or size_bytes == self._size_bytes:
            return
        try:
            self.grow(size_bytes)
        except StorageError:
            self.close()
            raise

    def _undo_unfinished(self) -> None:
        """Brings back what was there before an atomic write that had not ended when the store was closed or lost.

        raises    StorageError; the store is closed then
        """
        try:
            found = None if self._undo is None else self._undo.pending()
            if found is None or self._undo is None:
                return
            end_bytes = found.offset_bytes + len(found.data)
            if found.identity == FileIdentity.of(self._descriptor) and end_bytes <= self._size_bytes:
                self._write_all(found.offset_bytes, memoryview(found.data))
                os.fdatasync(self._descriptor)
                log.warning("%s: an atomic write of %d bytes had not ended and is undone", self._where, len(found.data))
            else:
                log.error("%s: an atomic write to another file in its place had not ended; that is torn", self._where)
            self._undo.forget()
        except (OSError, MediumError) as error:
            self.close()
            remedy = "see what the kernel log says about it"
            raise StorageError(f"an atomic write cannot be undone: {error}", self._where, remedy) from error

    def close(self) -> None:
        """Closes the file and with it gives up the lock."""
        if self._undo is not None:
            self._undo.close()
        os.close(self._descriptor)

    def _check(self, offset_bytes: int, length_bytes: int) -> None:
        assert 0 <= offset_bytes <= offset_bytes + length_bytes <= self._size_bytes

    def _admit_change(self, offset_bytes: int, length_bytes: int) -> None:
        self._check(offset_bytes, length_bytes)
        if self._read_only:
            raise MediumError(Fault.READ_ONLY, offset_bytes)
        if self._is_torn:
            raise MediumError(Fault.WRITE_FAILED, offset_bytes)
        if self._kind is Kind.REGULAR_FILE:
            self._check_not_truncated(offset_bytes, length_bytes)

    def _check_not_truncated(self, offset_bytes: int, length_bytes: int) -> None:
        try:
            size_bytes = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise medium_error(error, Fault.READ_FAILED) from error
        if size_bytes < offset_bytes + length_bytes:
            raise MediumError(Fault.TRUNCATED, max(offset_bytes, size_bytes))

    def _change_failed(self, error: OSError, offset_bytes: int) -> MediumError:
        # A device that has become smaller says ENOSPC, as one that is thin and full does.
        ambiguous = error.errno == errno.ENOSPC and self._kind is Kind.BLOCK_DEVICE
        if ambiguous and os.lseek(self._descriptor, 0, os.SEEK_END) <= offset_bytes:
            return MediumError(Fault.TRUNCATED, offset_bytes)
        return medium_error(error, Fault.WRITE_FAILED, offset_bytes)

    def _write_all(self, offset_bytes: int, source: memoryview) -> None:
        done = 0
        while done < len(source):
            try:
                done += os.pwrite(self._descriptor, source[done:], offset_bytes + done)
            except OSError as error:
                raise self._change_failed(error, offset_bytes + done) from error

    def _write_zeros(self, offset_bytes: int, length_bytes: int) -> None:
        end_bytes = offset_bytes + length_bytes
        for position in range(offset_bytes, end_bytes, ZEROS_BYTES):
            self.write(position, _ZEROS[: min(ZEROS_BYTES, end_bytes - position)])

    def _seek(self, position: int, whence: int) -> int:
        """Returns where the next data or hole begins, or the size when there is none."""
        try:
            return os.lseek(self._descriptor, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self._size_bytes
            if whence == os.SEEK_DATA and error.errno in (errno.EINVAL, *_UNSUPPORTED):
                self._maps_allocation = False
                return position  # an empty hole; everything after it counts as allocated
            if whence == os.SEEK_HOLE and not self._maps_allocation:
                return self._size_bytes
            raise medium_error(error, Fault.READ_FAILED, position) from error


def _open(where: Path, size_bytes: int | None, read_only: bool) -> _Opened:
    mode = where.stat().st_mode
    if stat.S_ISREG(mode):
        kind, exclusive = Kind.REGULAR_FILE, 0
    elif stat.S_ISBLK(mode):
        # The kernel then refuses a device that is mounted or otherwise claimed.
        kind, exclusive = Kind.BLOCK_DEVICE, 0 if read_only else os.O_EXCL
    else:
        remedy = "name a regular file or a block device"
        raise StorageError("it is neither a regular file nor a block device", where, remedy)
    descriptor = os.open(where, (os.O_RDONLY if read_only else os.O_RDWR) | exclusive)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        _take_lock(descriptor, where, kind, read_only)
        found_bytes = _size_of(descriptor, kind)
        _check_size(where, kind, found_bytes, size_bytes, read_only=read_only)
        undo.pop_all()
    return _Opened(where, descriptor, kind, found_bytes, read_only)


def _create(where: Path, size_bytes: int, creating: Callable[[], None]) -> _Opened:
    """Builds the image under another name, so that no failure of the power leaves a half-made one."""
    import tempfile

    descriptor, draft = tempfile.mkstemp(prefix=f".{where.name}.", dir=where.parent)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            _take_lock(descriptor, where, Kind.REGULAR_FILE, False)
            os.ftruncate(descriptor, size_bytes)
            os.fsync(descriptor)
            creating()
            os.link(draft, where)  # a rename would replace an image that came into being meanwhile
        finally:
            Path(draft).unlink()
        host.sync_directory(where.parent)
        undo.pop_all()
    return _Opened(where, descriptor, Kind.REGULAR_FILE, size_bytes, False)


def _take_lock(descriptor: int, where: Path, kind: Kind, read_only: bool) -> None:
    for attempt in itertools.count(1):
        if host.lock(descriptor, exclusive=not read_only):
            return
        if kind is Kind.REGULAR_FILE or attempt == DEVICE_LOCK_TRIES:
            break
        time.sleep(DEVICE_LOCK_PAUSE_S)
    remedy = "stop the server that uses it, or serve it read-only everywhere"
    raise StorageError("it is in use: somebody else holds its lock", where, remedy)


def _size_of(descriptor: int, kind: Kind) -> int:
    if kind is Kind.BLOCK_DEVICE:
        return os.lseek(descriptor, 0, os.SEEK_END)
    return os.fstat(descriptor).st_size


def _check_size(where: Path, kind: Kind, found_bytes: int, wanted_bytes: int | None, *, read_only: bool) -> None:
    if found_bytes == 0:
        remedy = "give it a size with truncate(1), or remove it and configure a size to have it created"
        raise StorageError("it is empty", where, remedy)
    may_grow = kind is Kind.REGULAR_FILE and not read_only
    if wanted_bytes is None or wanted_bytes == found_bytes or (may_grow and wanted_bytes > found_bytes):
        return
    remedy = f"set the size to {found_bytes} or leave it out"
    if kind is Kind.REGULAR_FILE:
        remedy += f", or change the image with truncate -s {wanted_bytes}, which loses what is beyond"
    raise StorageError(f"it has {found_bytes} bytes where {wanted_bytes} are wanted", where, remedy)
