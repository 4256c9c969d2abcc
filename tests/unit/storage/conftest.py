"""An image of SIZE bytes, a store on it, and a block device of the same size."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsi_target.storage.file import FileStore

SIZE = 4 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "unit0.img"


@pytest.fixture
def store(image: Path) -> Iterator[FileStore]:
    opened = FileStore.open(image, size_bytes=SIZE, read_only=False)
    yield opened
    opened.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    backing = tmp_path / "backing"
    backing.touch()
    os.truncate(backing, SIZE)
    command = ["losetup", "--find", "--show", str(backing)]
    try:
        made = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to make a loop device")
    yield Path(made.stdout.strip())
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
