"""An initiator for programs and tests: the asyncio driver of the initiator's machine, and a small view of a disk.

    async with iscsi_target.connect("iscsi://127.0.0.1:3260/iqn.2026-11.org.example:disks/0") as session:
        await session.write(0, bytes(512))

Everything that the standard lets an initiator send can be sent, and what it does not as well: raw CDBs, raw PDUs, and
faults by script.
"""

from iscsi_target.client.connecting import DEFAULT_NAME, Options, Reconnect, connect, discover
from iscsi_target.client.failures import (
    Aborted,
    ClientError,
    CommandFailed,
    NotLoggedIn,
    QueryRefused,
    Rejected,
    SessionEnded,
)
from iscsi_target.client.outcome import Outcome
from iscsi_target.client.session import Capacity, ClientSession, Managed, Task
from iscsi_target.client.targets import DiscoveredTarget
from iscsi_target.client.url import IscsiUrl, parse_url
from iscsi_target.initiator.faults import (
    CorruptDataDigest,
    CorruptHeaderDigest,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Renumber,
    Rule,
)
from iscsi_target.initiator.proof import Credentials
from iscsi_target.iscsi.chap import ChapAccount
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement

__all__ = [
    "connect",
    "discover",
    "DEFAULT_NAME",
    "Options",
    "Reconnect",
    "Preferences",
    "Credentials",
    "ChapAccount",
    "IscsiUrl",
    "parse_url",
    "ClientSession",
    "Task",
    "Outcome",
    "Capacity",
    "Managed",
    "DiscoveredTarget",
    "TaskManagement",
    "ManagementResponse",
    "Rule",
    "Drop",
    "Duplicate",
    "Delay",
    "CorruptHeaderDigest",
    "CorruptDataDigest",
    "Cut",
    "Renumber",
    "ClientError",
    "NotLoggedIn",
    "QueryRefused",
    "SessionEnded",
    "CommandFailed",
    "Aborted",
    "Rejected",
]
