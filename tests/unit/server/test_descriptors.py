"""The limit of open files, as the process has it and as it may be."""

import resource

import pytest

from iscsi_target.server.descriptors import UNLIMITED, affordable_connections, raise_limit


@pytest.fixture
def limit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("soft, connections", [(1024, 768), (8192, 6144), (resource.RLIM_INFINITY, UNLIMITED)])
def test_a_quarter_is_left_to_other_files(soft, connections, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    assert affordable_connections() == connections


def test_soft_limit_is_raised_to_the_hard_one(limit):
    _, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_limit_that_cannot_be_raised_stays(monkeypatch):
    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_limit()
