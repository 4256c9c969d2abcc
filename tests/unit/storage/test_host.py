"""System calls on a file of 64 KiB."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsi_target.storage import host


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.pwrite(opened, b"h" * 65536, 0)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("deallocate", [host.punch_hole, host.zero_range])
def test_a_deallocated_range_reads_as_zeros_and_the_size_stays(descriptor, deallocate):
    deallocate(descriptor, 1000, length_bytes=1 << 20)
    assert os.pread(descriptor, 1 << 20, 0) == b"h" * 1000 + bytes(64536)
    assert os.fstat(descriptor).st_size == 65536


def test_a_hole_beyond_4_gib_is_where_it_was_asked_for(descriptor):
    os.pwrite(descriptor, b"far", 1 << 33)
    host.punch_hole(descriptor, (1 << 33) + 1, length_bytes=1)
    assert os.pread(descriptor, 3, 1 << 33) == b"f\0r"


def test_what_the_system_refuses_is_an_os_error(descriptor):
    with pytest.raises(OSError, match="Invalid argument") as caught:
        host.punch_hole(descriptor, 0, length_bytes=0)
    assert caught.value.errno == errno.EINVAL


def test_an_exclusive_lock_excludes_and_shared_ones_do_not(descriptor, tmp_path):
    other = os.open(tmp_path / "file", os.O_RDONLY)
    assert host.lock(descriptor, exclusive=False)
    assert host.lock(other, exclusive=False)
    assert not host.lock(descriptor, exclusive=True)
    os.close(other)
    assert host.lock(descriptor, exclusive=True)


def test_only_a_directory_is_synced_as_one(descriptor, tmp_path):
    host.sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        host.sync_directory(tmp_path / "file")


def test_a_file_system_is_told_by_its_number():
    with Path("/proc/self/stat").open("rb") as opened:
        assert host.file_system(opened.fileno()) == 0x9FA0  # procfs, the one file system that is everywhere


def test_the_file_system_of_a_closed_file_is_an_error():
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        host.file_system(descriptor)


def test_large_buffers_that_were_freed_are_used_again():
    program = """
import resource
from iscsi_target.storage import host
host.keep_freed_memory(32 << 20)
def faults_of_a_buffer():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_a_buffer()
print(faults_of_a_buffer())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 100  # of 2048 pages
