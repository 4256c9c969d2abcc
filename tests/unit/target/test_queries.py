"""Queries count what the session has besides the units: tasks that wait for room, and responses that are held."""

import pytest

from iscsi_target.iscsi import parking
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from tests.initiator import Host, Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


def ask(host: Host, function: TaskManagement, tag: int) -> ManagementResponse:
    response = host.managed(host.manage(function, referenced=tag))
    assert response is not None
    return ManagementResponse(response)


@pytest.mark.parametrize("function", [TaskManagement.QUERY_TASK, TaskManagement.QUERY_TASK_SET])
def test_a_command_that_waits_for_room_is_a_task(lab: Lab, function: TaskManagement, monkeypatch):
    host = lab.session("a", offers=[("iSCSIProtocolLevel", "2")])
    monkeypatch.setattr(parking, "LIMIT_BYTES", 0)
    lab.slow = True
    first, second = host.read(0), host.read(1)
    for tag in (first, second):
        assert ask(host, function, tag) is ManagementResponse.FUNCTION_SUCCEEDED
