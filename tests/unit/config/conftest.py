"""A configuration with one target that works, and what is found in it with lines of a test behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from iscsi_target.config.checks import Judged, judge

BEFORE = """\
[units.disk0]
ram = true
size = "1MiB"

[[targets]]
name = "iqn.2026-11.org.example:disks"
luns = { 0 = "disk0" }
"""

Find = Callable[[str], Judged]


@pytest.fixture
def before() -> str:
    """Returns the tables that there are; a test file may have others."""
    return BEFORE


@pytest.fixture
def find(tmp_path: Path, before: str) -> Find:
    """Writes lines behind those that there are, of the last table, and returns what is found in the file."""
    path = tmp_path / "config.toml"

    def found(text: str) -> Judged:
        path.write_text(before + text)
        return judge(path, tmp_path)

    return found
