"""What the operating system says, told to a person and to a logical unit."""

import errno
import os
from pathlib import Path

import pytest

from iscsi_target.scsi.operations import Fault
from iscsi_target.storage.faults import StorageError, medium_error, refusal

IMAGE = Path("/srv/unit0.img")


def said(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_refusal_says_where_what_and_what_to_do():
    error = refusal("open it", IMAGE, said(errno.EACCES))
    assert str(error) == (
        "/srv/unit0.img: cannot open it: Permission denied; give the user that runs the server access to it"
    )
    assert (error.what, error.where) == ("cannot open it: Permission denied", IMAGE)


def test_a_refusal_has_a_remedy_whatever_the_system_says():
    assert refusal("open it", IMAGE, said(errno.EIO)).remedy
    assert refusal("open it", IMAGE, OSError("no number")).what == "cannot open it: no number"


def test_a_storage_error_is_no_medium_error():
    assert not isinstance(StorageError("it is empty", IMAGE, "remove it"), OSError)


@pytest.mark.parametrize("otherwise", [Fault.READ_FAILED, Fault.WRITE_FAILED])
@pytest.mark.parametrize("number", [errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.EPERM])
def test_an_error_without_a_particular_fault_is_that_of_the_direction(number, otherwise):
    error = medium_error(said(number), otherwise, 512)
    assert (error.fault, error.offset_bytes) == (otherwise, 512)


def test_an_error_with_a_particular_fault_is_that_one():
    assert medium_error(said(errno.ENOSPC), Fault.WRITE_FAILED).fault is Fault.NO_SPACE
    assert medium_error(said(errno.ESTALE), Fault.READ_FAILED).fault is Fault.GONE
