"""The desk that waits for units; the units here only take note of what they are asked."""

from collections.abc import Iterable

import pytest

from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.state.task import Function, Managed, ManagementRequest, UnitAction
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.management import (
    FUNCTIONS,
    REFUSALS,
    ManagementDesk,
)
from iscsi_target.target.queries import QUERIES
from tests.unit.scsi.unit_bench import A, make_device

REQUEST = ManagementRequest(0, Function.ABORT_TASK, A, 1)


class Asked(LogicalUnit):
    """A logical unit that reports when the test does."""

    def __init__(self) -> None:
        super().__init__("asked", make_device())
        self.numbers: list[int] = []

    def manage(self, request: ManagementRequest) -> list[UnitAction]:
        self.numbers.append(request.number)
        return []


class Bench:
    def __init__(self) -> None:
        self.said: list[bool] = []
        self.desk = ManagementDesk(self.execute)

    def execute(self, unit: LogicalUnit, actions: Iterable[UnitAction]) -> None:
        for action in actions:
            assert isinstance(action, Managed)
            self.desk.reported(action)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_units_it_goes_on_at_once(bench: Bench):
    bench.desk.request([], REQUEST, bench.said.append)
    assert bench.said == [False]


def test_it_goes_on_after_the_last_unit(bench: Bench):
    units = [Asked(), Asked()]
    bench.desk.request(units, REQUEST, bench.said.append)
    [number] = units[0].numbers
    bench.desk.reported(Managed(number, found=True))
    assert bench.said == []
    bench.desk.reported(Managed(number, found=False))
    assert bench.said == [True]


def test_unit_that_reports_at_once_does_not_hide_the_others(bench: Bench):
    slow = Asked()
    bench.desk.request([LogicalUnit("quick", make_device()), slow], REQUEST, bench.said.append)
    assert bench.said == []
    bench.desk.reported(Managed(slow.numbers[0], found=False))
    assert bench.said == [False]


def test_requests_are_told_apart(bench: Bench):
    unit = Asked()
    said: list[str] = []
    bench.desk.request([unit], REQUEST, lambda _: said.append("first"))
    bench.desk.request([unit], REQUEST, lambda _: said.append("second"))
    bench.desk.reported(Managed(unit.numbers[1]))
    bench.desk.reported(Managed(unit.numbers[0]))
    assert said == ["second", "first"]


@pytest.mark.parametrize("function", TaskManagement)
def test_every_function_is_performed_or_refused(function: TaskManagement):
    assert (function in FUNCTIONS) + (function in REFUSALS) + (function in QUERIES) == 1


def test_refusals_are_those_of_the_standard():
    assert REFUSALS[TaskManagement.TASK_REASSIGN] is ManagementResponse.REASSIGNMENT_NOT_SUPPORTED
