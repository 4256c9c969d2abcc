"""Keeps on stable storage what a range held before it is written, so that a write which did not end can be undone.

The file is made when it is first needed, and holds one record: where, and the bytes. A record with a wrong checksum was
not whole when the process or the power was lost, so the write that it was for had not begun.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from iscsi_target.storage import host
from iscsi_target.wire.crc32c import crc32c
from iscsi_target.wire.layout import U32, U64, Bytes8, Layout

MAGIC = b"iSCSundo"


class _Header(Layout):
    """What stands before the bytes; the checksum is of all the rest."""

    magic: Bytes8 = MAGIC
    file_system: U64 = 0
    number: U64 = 0
    generation: U64 = 0
    offset_bytes: U64 = 0
    length_bytes: U32 = 0
    checksum: U32 = 0


class FileIdentity(NamedTuple):
    """Which file a record is of: an image that takes the place of another one must not be changed by it.

    file_system   0 for a block device
    number        of the file, or the length of a device, whose numbers another start of the system may change
    generation    which of the files that have had the number, where the file system tells
    """

    file_system: int
    number: int
    generation: int = 0

    @classmethod
    def of(cls, descriptor: int) -> "FileIdentity":
        """Returns the identity of an open file or device."""
        found = os.fstat(descriptor)
        if stat.S_ISBLK(found.st_mode):
            return cls(0, os.lseek(descriptor, 0, os.SEEK_END))
        return cls(os.fstatvfs(descriptor).f_fsid, found.st_ino, host.generation(descriptor))


class Undo(NamedTuple):
    """What a range held before a write.

    identity   of the file
    """

    identity: FileIdentity
    offset_bytes: int
    data: bytes


class UndoFile:
    """The undo file of one unit; one user at a time, every call may block and raise OSError.

    path   in a directory that is there
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def keep(self, undo: Undo) -> None:
        """Stores what a range holds; it is on stable storage when it returns, and nothing is when it raises."""
        if self._descriptor < 0:
            self._open()
        header = _Header(
            file_system=undo.identity.file_system,
            number=undo.identity.number,
            generation=undo.identity.generation,
            offset_bytes=undo.offset_bytes,
            length_bytes=len(undo.data),
        )
        whole = header.replace(checksum=crc32c(header.pack(), undo.data)).pack() + undo.data
        if os.pwrite(self._descriptor, whole, 0) != len(whole):
            raise OSError(f"{self._path}: not all was written")
        os.fdatasync(self._descriptor)

    def forget(self) -> None:
        """Says durably that there is nothing to undo; what the range held is not kept."""
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)

    def pending(self) -> Undo | None:
        """Returns what is to be undone, or None."""
        if not self._path.exists():
            return None
        self._open()
        stored = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        if len(stored) < _Header.size:
            return None
        header, data = _Header.unpack(stored), stored[_Header.size :]
        data = data[: header.length_bytes]
        checksum = crc32c(header.replace(checksum=0).pack(), data)
        if header.magic != MAGIC or len(data) != header.length_bytes or checksum != header.checksum:
            return None
        identity = FileIdentity(header.file_system, header.number, header.generation)
        return Undo(identity, header.offset_bytes, data)

    def drop(self) -> None:
        """Removes the file, because what it is of is new."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        host.sync_directory(self._path.parent)
