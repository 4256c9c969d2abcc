"""What goes wrong in storage: refusals at start, which a person reads, and faults, which become sense data.

`StorageError` is raised while something is opened and stops the server or the reload. `MediumError`, which
scsi/operations defines, is raised while a unit is served. The functions here turn what the operating system
says into one of the two.
"""

import errno
import os
from pathlib import Path

from iscsi_target.scsi.operations import Fault, MediumError

_FAULTS = {
    errno.ENOSPC: Fault.NO_SPACE,
    errno.EDQUOT: Fault.NO_SPACE,
    errno.EFBIG: Fault.NO_SPACE,  # the size limit of the process or of the file system
    errno.EROFS: Fault.READ_ONLY,
    errno.ENODEV: Fault.GONE,
    errno.ENXIO: Fault.GONE,
    errno.ESTALE: Fault.GONE,
}

_REMEDIES = {
    errno.ENOENT: "create the directory or correct the path",
    errno.ENOTDIR: "correct the path",
    errno.EACCES: "give the user that runs the server access to it",
    errno.EPERM: "give the user that runs the server access to it",
    errno.EROFS: "serve it read-only or remount the file system writable",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EFBIG: "choose a smaller size or a file system that holds files of this size",
    errno.EBUSY: "unmount it, and stop whatever else uses it",
    errno.ENOLCK: "use a file system that supports flock",
    errno.ENOTSUP: "use a local file system",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= in a systemd unit)",
}


class StorageError(Exception):
    """Says that a medium or the state file cannot be used, for a person to read.

    what     what is wrong, a statement
    where    the path
    remedy   what to do about it, an imperative
    """

    def __init__(self, what: str, where: Path, remedy: str) -> None:
        super().__init__(f"{where}: {what}; {remedy}")
        self.what = what
        self.where = where
        self.remedy = remedy


def refusal(attempted: str, where: Path, error: OSError) -> StorageError:
    """Returns the StorageError for a failed system call.

    attempted   what could not be done, completing "cannot ..."
    where       the path
    error       what the system said
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "see what the kernel log says about it")
    return StorageError(f"cannot {attempted}: {reason}", where, remedy)


def medium_error(error: OSError, otherwise: Fault, offset_bytes: int | None = None) -> MediumError:
    """Returns the MediumError for a failed system call.

    error          what the system said
    otherwise      the fault when the error number names no particular one (EIO above all)
    offset_bytes   where, or None when the whole medium is meant
    """
    return MediumError(_FAULTS.get(error.errno or 0, otherwise), offset_bytes)
