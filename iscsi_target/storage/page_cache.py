"""Reads and writes of a file or device on the event loop, as far as they end in the page cache without waiting.

A read asks the kernel for what is cached and nothing else (RWF_NOWAIT). The kernel does not wait for what is missing,
but it begins to fetch it, which may take a tenth of a millisecond on a virtual machine; so misses have a share of each
turn of the event loop. A quick disk has it some ten microseconds later. To hand a read to a thread and its result back
costs more than to ask again until then, so that is what `awaits` and `again` are for. Where it was in vain, the disk is
slow, and threads read for a while.

A write asks for the same where the file system knows how. Where it does not, it is made here only when nothing is known
that could hold it up:

- A file system of this machine or a device takes it: one that talks to a server may hang.
- It covers whole pages, so none has to be read first. In a file system in memory none ever has.
- No thread is changing or flushing the same store, which would hold the lock of the file or make pages wait.
- The last ones were quick, as storage/pace judges; this finds out what the other rules cannot know.

A file system in memory does not know RWF_NOWAIT and needs it for no read but of what was swapped out; pace again.

Whatever goes wrong here is left to a thread, which does it again from the start and reports the fault. That a file
was truncated is asked before every write with lseek, which takes a quarter of the time of fstat; a write beyond the
new end would make the file grow again with zeros in between.
"""

import contextlib
import errno
import math
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Literal, TypeGuard

from iscsi_target.scsi.operations import BLOCKS, Buffer, Operation, Read, WouldBlock, Write
from iscsi_target.storage import host
from iscsi_target.storage.pace import Pace

INLINE_LIMIT_BYTES = 1 << 20  # of one read or write: some 0.3 ms of copying
MISSES_S = 0.0005  # that misses take in a row, about, before the event loop has its next turn
VAIN_REST = 7  # times what was waited in vain, threads read: waiting takes an eighth of the event loop's time at most

_IN_MEMORY = frozenset({0x01021994})  # tmpfs
_LOCAL = frozenset({0xEF53, 0x58465342, 0xF2F52010})  # ext2 to ext4, XFS, F2FS
_JERKY = frozenset({0x9123683E})  # Btrfs waits often, but not for images without copy-on-write, and it knows when

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)

_Read = Callable[[int, int], bytearray | bytes | Literal[WouldBlock.BLOCKS]]
_Write = Callable[[int, Buffer], Literal[WouldBlock.BLOCKS] | None]
_Put = Callable[[Buffer, int], int]


class PageCache:
    """What an event loop may do with an open file or device.

    descriptor   stays open as long as this is used
    writable     True when writes may be tried
    pace         judges writes, and reads of a file system in memory
    """

    def __init__(self, descriptor: int, pace: Pace, *, writable: bool) -> None:
        found = os.fstat(descriptor)
        is_device = stat.S_ISBLK(found.st_mode)
        system = host.file_system(descriptor)  # of a device, where its node lies
        in_memory = system in _IN_MEMORY and not is_device
        may_wait = system in _IN_MEMORY | _LOCAL or is_device
        may_write = writable and (may_wait or system in _JERKY)
        self._descriptor = descriptor
        self._pace = pace
        self._clock = pace.clock
        self._missed_s = 0.0  # that misses took until one of them is asked for again
        self._missed_bytes = -1  # the place of the last one, likewise
        self._resting_until = -math.inf
        self._has_fixed_end = is_device
        self._unit_bytes = 1 if in_memory else max(os.sysconf("SC_PAGE_SIZE"), found.st_blksize)
        self._read: _Read = self._read_memory if in_memory else self._read_cached
        self._fetches = not in_memory
        self._write: _Write = self._write_cached if may_write else _refuse_write
        self._may_wait = may_wait
        self._put: _Put = self._put_nowait
        self._is_careful = False
        self._changes = 0
        self._counting = threading.Lock()

    def attempt(self, operation: Operation) -> bytearray | bytes | Literal[WouldBlock.BLOCKS] | None:
        """Performs a plain read or write of moderate length if that cannot block; everything else BLOCKS.

        returns   the bytes of a read, None for a write that is done, or BLOCKS: then what a write should write may
                  be written in part, and a thread writes all of it
        """
        if isinstance(operation, Read):
            if not operation.flush and operation.length_bytes <= INLINE_LIMIT_BYTES:
                return self._read(operation.offset_bytes, operation.length_bytes)
        elif isinstance(operation, Write) and not operation.flush and len(operation.data) <= INLINE_LIMIT_BYTES:
            return self._write(operation.offset_bytes, operation.data)
        return BLOCKS

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Keeps writes away from the event loop while a thread changes or flushes the store inside."""
        with self._counting:
            self._changes += 1
        try:
            yield
        finally:
            with self._counting:
                self._changes -= 1

    def awaits(self, operation: Operation) -> TypeGuard[Read]:
        """Returns True for a read that blocked while the kernel fetches what it reads, which should not take long."""
        if not isinstance(operation, Read) or operation.flush or operation.length_bytes > INLINE_LIMIT_BYTES:
            return False
        return self._fetches and self._clock() >= self._resting_until

    def again(self, read: Read) -> bytearray | Literal[WouldBlock.BLOCKS]:
        """Performs a read that is awaited if that cannot block, in another turn of the event loop than before."""
        self._missed_s, self._missed_bytes = 0.0, -1
        return self._read_nowait(read.offset_bytes, read.length_bytes)

    def waited_in_vain(self, waited_s: float) -> None:
        """Takes in that nothing of what is awaited was there after so long."""
        self._resting_until = self._clock() + VAIN_REST * waited_s

    def refuse_writes(self) -> None:
        """Leaves every write to a thread from now on, which knows why the store is not to be written."""
        self._write = _refuse_write

    def _read_cached(self, offset_bytes: int, length_bytes: int) -> bytearray | Literal[WouldBlock.BLOCKS]:
        if offset_bytes == self._missed_bytes:
            return BLOCKS  # the same command, which the express way, the lane and the unit may each try
        begun = self._clock()
        if begun < self._resting_until or self._missed_s > MISSES_S:
            return BLOCKS
        found = self._read_nowait(offset_bytes, length_bytes)
        if found is BLOCKS:
            self._missed_s += self._clock() - begun
            self._missed_bytes = offset_bytes
        return found

    def _read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray | Literal[WouldBlock.BLOCKS]:
        buffer = bytearray(length_bytes)
        try:
            if os.preadv(self._descriptor, (buffer,), offset_bytes, os.RWF_NOWAIT) == length_bytes:
                return buffer
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._read, self._fetches = _refuse_read, False
        return BLOCKS

    def _read_memory(self, offset_bytes: int, length_bytes: int) -> bytes | Literal[WouldBlock.BLOCKS]:
        begun = self._pace.begin()
        if begun is None:
            return BLOCKS
        try:
            found = os.pread(self._descriptor, length_bytes, offset_bytes)
        except OSError:
            return BLOCKS
        self._pace.end(begun)
        return found if len(found) == length_bytes else BLOCKS

    def _write_cached(self, offset_bytes: int, data: Buffer) -> Literal[WouldBlock.BLOCKS] | None:
        length_bytes = len(data)
        if self._is_careful and (self._changes or offset_bytes % self._unit_bytes or length_bytes % self._unit_bytes):
            return BLOCKS
        begun = self._pace.begin()
        if begun is None or self._ends_before(offset_bytes + length_bytes):
            return BLOCKS
        try:
            count = self._put(data, offset_bytes)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._cannot_put_nowait()
            return BLOCKS
        self._pace.end(begun)
        return None if count == length_bytes else BLOCKS

    def _put_nowait(self, data: Buffer, offset_bytes: int) -> int:
        return os.pwritev(self._descriptor, (data,), offset_bytes, os.RWF_NOWAIT)

    def _put_carefully(self, data: Buffer, offset_bytes: int) -> int:
        return os.pwrite(self._descriptor, data, offset_bytes)

    def _cannot_put_nowait(self) -> None:
        self._put, self._is_careful = self._put_carefully, True
        if not self._may_wait:
            self._write = _refuse_write

    def _ends_before(self, end_bytes: int) -> bool:
        return not self._has_fixed_end and os.lseek(self._descriptor, 0, os.SEEK_END) < end_bytes


def _refuse_read(offset_bytes: int, length_bytes: int) -> Literal[WouldBlock.BLOCKS]:
    return BLOCKS


def _refuse_write(offset_bytes: int, data: Buffer) -> Literal[WouldBlock.BLOCKS]:
    return BLOCKS
