"""What all tests share: the profiles of the property tests, the external tools that some need, and hosts of a lab."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.initiator import Host, Lab

IN_CI = bool(os.environ.get("CI"))

# An example's time says more about the machine than about the law, so there is no deadline.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "quick"))

Tool = Callable[[str], Path]


def find_tool(name: str) -> Path:
    """Returns the path of an installed program; skips the test when there is none, and fails it in CI."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if found is None:
        report = pytest.fail if IN_CI else pytest.skip
        report(f"{name} is not installed; tools/setup test installs it or says what to install")
    return Path(found)


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Returns `find_tool`: `tool("iscsi-ls")` is the path of the program."""
    return find_tool


@pytest.fixture
def a(lab: Lab) -> Host:
    """Returns host A in a session with the `lab` of the test's file."""
    return lab.session("a")


@pytest.fixture
def b(lab: Lab) -> Host:
    """Returns host B in a session with the `lab` of the test's file."""
    return lab.session("b")
