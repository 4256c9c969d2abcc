"""Joins iSCSI sessions and SCSI logical units into one deterministic machine: `Target`.

`actions` is what it tells its driver, `nodes` what it is told about itself, `management` how it waits for aborted
tasks, `machine` the machine.
"""

from iscsi_target.scsi.state.task import Perform, Persist
from iscsi_target.target.actions import (
    Action,
    Announce,
    Close,
    ConnectionJoined,
    ConnectionLeft,
    ConnectionLost,
    ConnectionTimedOut,
    Event,
    FaultFired,
    Fill,
    Flow,
    LoginFailed,
    Operated,
    Order,
    ProtocolViolated,
    ReservationNoted,
    SanitizeNoted,
    Send,
    SessionEnded,
    SessionStarted,
    SessionSummary,
)
from iscsi_target.target.alarms import NEVER
from iscsi_target.target.limits import Limits
from iscsi_target.target.machine import Setting, Target
from iscsi_target.target.misbehaving import MisbehavingTarget
from iscsi_target.target.nodes import Portal, TargetNode, Timeouts

__all__ = [
    "NEVER",
    "Action",
    "Announce",
    "Close",
    "ConnectionJoined",
    "ConnectionLeft",
    "ConnectionLost",
    "ConnectionTimedOut",
    "Event",
    "FaultFired",
    "Fill",
    "Flow",
    "Limits",
    "LoginFailed",
    "MisbehavingTarget",
    "Operated",
    "Order",
    "Perform",
    "Persist",
    "Portal",
    "ProtocolViolated",
    "ReservationNoted",
    "SanitizeNoted",
    "Send",
    "SessionEnded",
    "SessionStarted",
    "SessionSummary",
    "Setting",
    "Target",
    "TargetNode",
    "Timeouts",
]
