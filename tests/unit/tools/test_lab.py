"""Which unit of the lab a test of the suite runs on."""

from pathlib import Path

import pytest

from tools.lab import lab, urls_for
from tools.served import ServedTarget


class Served(ServedTarget):
    """A target that is not started."""

    def __init__(self) -> None:
        self.urls = tuple(f"iscsi://127.0.0.1:1/iqn.2026-11.org.example:lab/{lun}" for lun in range(8))
        self.portals = ("127.0.0.1:1", "127.0.0.2:2")


@pytest.mark.parametrize(
    ("name", "lun"),
    [
        ("Read10.Simple", 0),
        ("ReadOnly.ReadOnlySBC", 1),
        ("NoMedia.NoMediaSBC", 2),
        ("GetLBAStatus.Simple", 3),
        ("Sanitize.Overwrite", 6),
        ("Sanitize.Reset", 7),
    ],
)
def test_a_test_runs_on_its_unit_by_both_paths(name: str, lun: int) -> None:
    assert urls_for(Served(), name) == [
        f"iscsi://127.0.0.1:1/iqn.2026-11.org.example:lab/{lun}",
        f"iscsi://127.0.0.2:2/iqn.2026-11.org.example:lab/{lun}",
    ]


def test_the_lab_leaves_nothing_behind() -> None:
    with lab() as target:
        folder: Path = target.state
        assert len(target.urls) == 8
    assert not folder.exists()
