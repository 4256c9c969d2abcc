"""Opening and creating an image: what is refused and with which remedy, and who excludes whom."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.file import FileStore, Kind

SIZE = 4 << 20  # of the fixtures

OPEN_ELSEWHERE = """
import sys
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.file import FileStore
try:
    FileStore.open(sys.argv[1], size_bytes=None, read_only=sys.argv[2] == "ro")
    print("opened")
except StorageError as error:
    print(error.what)
"""


def refused(path: Path, size_bytes: int | None = None, *, read_only: bool = False) -> StorageError:
    with pytest.raises(StorageError) as caught:
        FileStore.open(path, size_bytes=size_bytes, read_only=read_only)
    assert caught.value.what
    assert caught.value.remedy
    assert str(caught.value.where) in str(caught.value)
    return caught.value


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_created_image_is_sparse_private_and_of_the_size(image, store):
    assert image.stat().st_size == store.size_bytes == SIZE
    assert image.stat().st_blocks == 0
    assert image.stat().st_mode & 0o077 == 0
    assert [each.name for each in image.parent.iterdir()] == ["unit0.img"]
    assert store.read(0, SIZE) == bytes(SIZE)
    assert store.kind is Kind.REGULAR_FILE


def test_creation_brings_file_and_directory_entry_to_stable_storage(image, monkeypatch):
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    FileStore.open(image, size_bytes=SIZE, read_only=False).close()
    assert synced[0].startswith(str(image.parent / ".unit0.img."))
    assert synced[1] == str(image.parent)


def test_a_failed_creation_leaves_nothing_behind(image, monkeypatch):
    monkeypatch.setattr(os, "ftruncate", failing(errno.EFBIG))
    assert "smaller size" in refused(image, SIZE).remedy
    assert list(image.parent.iterdir()) == []


def test_creation_never_replaces_an_image_that_came_into_being_meanwhile(image, monkeypatch):
    real = os.ftruncate

    def ftruncate(descriptor: int, size: int) -> None:
        real(descriptor, size)
        image.write_bytes(b"theirs")

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    refused(image, SIZE)
    assert image.read_bytes() == b"theirs"
    assert [each.name for each in image.parent.iterdir()] == ["unit0.img"]


def test_an_existing_image_keeps_its_contents_and_gives_its_size(image):
    image.write_bytes(b"first block" + bytes(1013))
    store = FileStore.open(image, size_bytes=None, read_only=False)
    assert store.size_bytes == 1024
    assert store.read(0, 11) == b"first block"
    store.close()


def test_a_shorter_image_is_made_as_long_as_it_is_to_be(image):
    image.write_bytes(b"x" * 512)
    store = FileStore.open(image, size_bytes=SIZE, read_only=False)
    assert store.size_bytes == image.stat().st_size == SIZE
    assert store.read(0, 1024) == b"x" * 512 + bytes(512)
    store.close()


def test_an_image_that_cannot_be_made_longer_is_closed(image, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    image.write_bytes(b"x" * 512)
    monkeypatch.setattr(os, "ftruncate", full)
    refused(image, SIZE)
    FileStore.open(image, size_bytes=None, read_only=False).close()


@pytest.mark.parametrize(("found", "read_only"), [(SIZE - 512, True), (SIZE + 512, False), (SIZE + 512, True)])
def test_an_image_of_another_size_is_refused_and_left_alone(image, found, read_only):
    image.touch()
    os.truncate(image, found)
    error = refused(image, SIZE, read_only=read_only)
    assert str(found) in error.what
    assert f"truncate -s {SIZE}" in error.remedy
    assert image.stat().st_size == found


def test_an_empty_image_is_refused(image):
    image.touch()
    assert "empty" in refused(image, SIZE).what
    assert "empty" in refused(image).what


def test_what_is_missing_is_refused_without_a_size_or_read_only(image):
    assert "size" in refused(image).remedy
    assert "no such image" in refused(image, SIZE, read_only=True).what
    assert not image.exists()


def test_a_missing_directory_is_refused(tmp_path):
    assert "create the directory" in refused(tmp_path / "missing" / "unit0.img", SIZE).remedy


def test_a_path_that_is_no_file_and_no_block_device_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        assert "neither" in refused(path, SIZE).what


def test_an_image_is_created_where_a_symbolic_link_points(tmp_path):
    (tmp_path / "link").symlink_to("target.img")
    FileStore.open(tmp_path / "link", size_bytes=SIZE, read_only=False).close()
    assert (tmp_path / "target.img").stat().st_size == SIZE


def test_an_open_image_is_refused_in_the_same_process(image, store):
    assert "in use" in refused(image).what
    assert "in use" in refused(image, read_only=True).what


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_an_open_image_is_refused_in_another_process(image, store, mode):
    command = [sys.executable, "-c", OPEN_ELSEWHERE, str(image), mode]
    assert "in use" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_closed_image_can_be_opened_in_another_process(image, store):
    store.flush()
    second = FileStore.open(image.parent / "other.img", size_bytes=SIZE, read_only=False)
    second.close()
    command = [sys.executable, "-c", OPEN_ELSEWHERE, str(image.parent / "other.img"), "rw"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "opened\n"


def test_readers_share_an_image_and_exclude_a_writer(image):
    image.write_bytes(bytes(512))
    first = FileStore.open(image, size_bytes=None, read_only=True)
    second = FileStore.open(image, size_bytes=512, read_only=True)
    refused(image)
    first.close()
    second.close()
    FileStore.open(image, size_bytes=None, read_only=False).close()


def test_a_block_device_in_use_or_of_another_size_is_refused(device):
    assert str(SIZE) in refused(device, SIZE + 512).what
    store = FileStore.open(device, size_bytes=None, read_only=False)
    refused(device)
    store.close()
