"""A bench whose unit is sanitized in eight steps; the drawing is in unit_bench."""

from iscsi_target.scsi.commands.sanitize import OverwriteHeader, Sanitize
from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.scsi.state.task import Aborted, Milestone, Reached, Task
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, A, B, Bench

LENGTH = BLOCK * BLOCKS
STEPS = 8
IN_PROGRESS, FAILED = (2, 0x041B), (3, 0x3103)
BROKEN = MediumError(Fault.WRITE_FAILED, 0)


class SanitizeBench(Bench):
    """A bench on which the sanitize operation is begun, carried on and told of."""

    def sanitize(self, nexus: Nexus = A, action: int = Method.BLOCK_ERASE, data: bytes = b"", **bits: bool) -> Task:
        """Sends SANITIZE and has it stored."""
        cdb = Sanitize(service_action=action, parameter_list_length=len(data), **bits)
        task = self.send(nexus, cdb, expects_data=bool(data))
        if data:
            self.give(task, data)
        if self.saving:
            self.persist()
        return task

    def overwrite(self) -> Task:
        header = OverwriteHeader(overwrite_count=1, initialization_pattern_length=1).pack()
        return self.sanitize(action=Method.OVERWRITE, data=header + b"x")

    def carry_on(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.perform()

    def fail(self, *, ause: bool = False) -> Task:
        """Lets an operation fail in its second step."""
        task = self.sanitize(ause=ause)
        self.perform()
        self.perform(error=BROKEN)
        self.persist()
        return task

    def refusal(self, cdb: Layout, nexus: Nexus = B) -> tuple[int, int] | None:
        task = self.send(nexus, cdb, expects_data=False)
        return None if self.status(task) is Status.GOOD else self.sense(task)

    def polled(self) -> tuple[int, int, int]:
        """Returns the sense key, the code and the progress that REQUEST SENSE of B tells."""
        task = self.send(B, RequestSense(allocation_length=18))
        end = self.outcome(task)
        assert end is not None
        assert not isinstance(end, Aborted)
        data = bytes(end.data_in)
        progress = int.from_bytes(data[16:18]) if data[15] & 0x80 else -1
        return data[2] & 0xF, int.from_bytes(data[12:14]), progress

    @property
    def milestones(self) -> list[Milestone]:
        return [action.milestone for action in self.actions if isinstance(action, Reached)]
