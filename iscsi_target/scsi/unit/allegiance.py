"""Auto contingent allegiance (ACA): who may go on after a command has failed that asked for it with NACA.

The nexus of that command is faulted. Until the condition is cleared the tasks of its task set stand still: what has not
begun does not begin, and what ends keeps its end to itself. What is at the medium already cannot be stopped, so it gets
that far. The unit is told by `Device.faulted`; here is which commands come in meanwhile, and when the condition begins.

Two things that SAM leaves open: a command of another nexus that is permitted meanwhile and fails begins no second
condition in the same task set, and leaves the first; and when TST changes meanwhile, what holds up a task is what holds
for its nexus now.
"""

from iscsi_target.scsi.layouts.cdb import Control, PersistentReserveOut, ServiceActionCdb
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Task, TaskAttribute
from iscsi_target.scsi.status import AcaActive, Busy
from iscsi_target.scsi.unit.open_tasks import OpenTasks

CODES_OF_A_GROUP = 32  # an operation code is a group code and 5 bits of a command code. Source: SPC4r37 4.2.5.1
CONTROL_AT = {0: 5, 1: 9, 2: 9, 4: 15, 5: 11}  # the last byte of the CDBs of a group. Source: SPC4r37 4.2.2
VARIABLE_LENGTH, CONTROL_OF_VARIABLE_LENGTH_AT = 0x7F, 1  # Source: SPC4r37 4.2.3


def asks_for_allegiance(cdb: bytes) -> bool:
    """Returns True for a CDB with NACA, whether or not its command is known.

    cdb      at least 16 bytes
    Source: SAM5r21 5.2
    """
    code = ServiceActionCdb.unpack(cdb).operation_code
    if code == VARIABLE_LENGTH:
        return Control.unpack(cdb, CONTROL_OF_VARIABLE_LENGTH_AT).naca
    place = CONTROL_AT.get(code // CODES_OF_A_GROUP)
    return place is not None and Control.unpack(cdb, place).naca


def permits(task: Task, device: Device, tasks: OpenTasks) -> bool:
    """Decides of a new task whether an ACA condition concerns it.

    tasks    the open tasks of the unit
    returns  True when it is processed in spite of the condition, False when there is none in its task set
    raises   AcaActive or Busy when it has to stay out
    Source: SAM5r21 5.9.3, 5.9.4, SPC4r37 7.5.8 (TMF_ONLY)
    """
    if not device.blocks(task.nexus):
        return False
    has_attribute = task.attribute is TaskAttribute.ACA
    if task.nexus in device.faulted:
        if not has_attribute or device.modes.management_only or tasks.has_aca_task(task.nexus):
            raise AcaActive
        return True
    if has_attribute:
        raise AcaActive
    if is_preempt_and_abort(task.cdb):
        return True
    raise AcaActive if asks_for_allegiance(task.cdb) else Busy


def is_preempt_and_abort(cdb: bytes) -> bool:
    """Returns True for the CDB of a PERSISTENT RESERVE OUT that ends tasks of others.

    cdb      at least 16 bytes
    Source: SPC4r37 6.16.2
    """
    first = ServiceActionCdb.unpack(cdb)
    is_out = first.operation_code == PersistentReserveOut.default("operation_code")
    return is_out and first.service_action == OutAction.PREEMPT_AND_ABORT


def failed(task: Task, device: Device) -> None:
    """Notes that a command ended with CHECK CONDITION, which may begin an ACA condition or end one.

    Source: SAM5r21 5.9.2, 5.9.3
    """
    before = device.faulted
    after = before - {task.nexus} if task.attribute is TaskAttribute.ACA else before
    if asks_for_allegiance(task.cdb) and (task.nexus in before or not device.blocks(task.nexus)):
        after |= {task.nexus}
    if after != before:
        device.faulted = after
