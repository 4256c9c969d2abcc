"""System calls of Linux that the standard library lacks or that take two steps; decides nothing."""

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
# Where off_t may have 32 bits, glibc names the variant with 64 bits apart; musl has 64 bits always.
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int

_FS_IOC_GETVERSION = 0x80087601  # of linux/fs.h, for a long of eight bytes
_STATFS_BYTES = 512  # more than struct statfs has on any architecture
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt(3)


def punch_hole(descriptor: int, offset_bytes: int, *, length_bytes: int) -> None:
    """Deallocates a range of a file or block device, which then reads as zeros and keeps its size.

    raises   OSError; EOPNOTSUPP where the file system or device cannot, EINVAL for part of a device's sector
    """
    _change_allocation(descriptor, _PUNCH_HOLE, offset_bytes=offset_bytes, length_bytes=length_bytes)


def zero_range(descriptor: int, offset_bytes: int, *, length_bytes: int) -> None:
    """Zeros a range without transferring zeros; it may stay allocated, and the file keeps its size.

    raises   OSError; EOPNOTSUPP where the file system cannot, EINVAL for part of a device's sector
    """
    _change_allocation(descriptor, _ZERO_RANGE, offset_bytes=offset_bytes, length_bytes=length_bytes)


def lock(descriptor: int, *, exclusive: bool) -> bool:
    """Takes an flock without waiting; two opens in one process exclude each other like two processes.

    exclusive   False shares it with others that share it
    returns     False when somebody else holds it
    raises      OSError where the file system cannot lock
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(path: Path) -> None:
    """Brings the entries of a directory to stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def generation(descriptor: int) -> int:
    """Returns which of the files it is that have had its inode number, or 0 where the file system does not tell."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, bytes(8))[:4], sys.byteorder)
    except OSError:
        return 0


def file_system(descriptor: int) -> int:
    """Returns the magic number of the file system that a file lies on, as statfs(2) lists them.

    raises   OSError
    """
    found = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    if _libc.fstatfs(descriptor, found) != 0:
        raise _error()
    return found[0]


def keep_freed_memory(limit_bytes: int) -> None:
    """Lets the process keep memory that it frees, up to a limit, to use it again.

    Otherwise each large buffer is mapped anew and costs a page fault for every page, several times the work of filling
    it. For all threads there is one heap then, since a buffer is often made by one and freed by another. Does nothing
    where the C library has no mallopt.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, 1)
        _libc.mallopt(_M_MMAP_THRESHOLD, limit_bytes)
        _libc.mallopt(_M_TRIM_THRESHOLD, limit_bytes)


def _change_allocation(descriptor: int, mode: int, *, offset_bytes: int, length_bytes: int) -> None:
    while _fallocate(descriptor, mode | _KEEP_SIZE, offset_bytes, length_bytes) != 0:
        error = _error()
        if error.errno != errno.EINTR:
            raise error


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
