"""The schedules of `test_fence` on a path that is active/non-optimized and holds back what needs the medium.

Both ports are in one target port group, so that every node comes by a slow path.
"""

from collections.abc import Iterable

import pytest

from iscsi_target.scsi.reservations.personality import STRICT, Personality
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup
from iscsi_target.scsi.state.task import Forget, Rest, Ticket, UnitAction
from iscsi_target.scsi.unit.open_task import OpenTask
from tests.conformance.reservations.world import RC
from tests.simulation.test_fence import BATCH, Schedule, run

SLOW = PortGroup(AccessState.ACTIVE_NON_OPTIMIZED, delay_s=0.1)


class SlowSchedule(Schedule):
    """One run.

    resting    what the path holds back
    excluded   how many writes had lost their right meanwhile
    """

    def __init__(self, seed: int, personality: Personality = STRICT, at_once: float = 0.0) -> None:
        self.resting: dict[Ticket, None] = {}
        self.excluded = 0
        super().__init__(seed, personality, at_once)
        self.unit.device.port_groups = {1: SLOW}

    @property
    def busy(self) -> bool:
        return super().busy or bool(self.resting)

    def _run(self, actions: Iterable[UnitAction]) -> None:
        actions = list(actions)
        for action in actions:
            match action:
                case Rest(ticket):
                    self.resting[ticket] = None
                case Forget(ticket):
                    del self.resting[ticket]
                case _:
                    pass
        super()._run(actions)

    def answer(self) -> None:
        if self.resting and self.random.random() < 0.5:
            self.wake(self.random.choice(list(self.resting)))
        else:
            super().answer()

    def wake(self, ticket: Ticket) -> None:
        """Law: what was held back is refused when the reservation excludes it by now."""
        assert isinstance(ticket, OpenTask)
        del self.resting[ticket]
        reservations, tag = self.unit.device.reservations, ticket.task.tag
        excluded = bool(self.payloads[tag]) and ticket.task.nexus not in reservations.registrations
        excluded &= reservations.reservation is not None
        self._run(self.unit.rested(ticket))
        if excluded:
            self.excluded += 1
            told = self.ended[tag]
            assert told == RC or self.may_come_first(told)


@pytest.mark.parametrize("first", range(0, 3 * BATCH, BATCH))
def test_fences_hold_on_paths_that_hold_commands_back(first: int):
    """Law: after a fence no write of a fenced nexus changes a block, though it was sent and held back before.

    Source: SPC4r37 5.13.1, 5.13.11.2.6, 5.15.2.4
    """
    schedules = [run(seed, at_once=0.5 * (seed % 2), kind=SlowSchedule) for seed in range(first, first + BATCH)]
    assert sum(schedule.fences for schedule in schedules) > BATCH
    assert sum(len(schedule.dead) for schedule in schedules) > BATCH
    assert sum(schedule.excluded for schedule in schedules if isinstance(schedule, SlowSchedule)) > BATCH // 2
