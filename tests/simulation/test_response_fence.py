"""Response fences under load: a session of several connections, and the initiator acknowledges when it likes.

A ---- connections 0, 1, 2 ---- NODE: LUN 0 == "disk0", LUN 1 == "disk1" (see tests/initiator)
"""

from random import Random

import pytest

from iscsi_target.iscsi.parameters import FAST_ABORT, RESPONSE_FENCE
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import DataIn, NopIn, ScsiResponse, TaskManagementResponse
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.scsi.operations import Operation
from tests.initiator import Host, Lab, Result
from tests.unit.scsi.unit_bench import BLOCK

CONNECTIONS, STEPS, SEEDS = 3, 120, range(20)
PING = 1 << 20  # tag of all pings, which is no other's
FUNCTIONS = (TaskManagement.ABORT_TASK_SET, TaskManagement.CLEAR_TASK_SET, TaskManagement.LOGICAL_UNIT_RESET)


class Prompt(Lab):
    """Media answer at once, so that commands go the short ways."""

    def attempt(self, unit: str, operation: Operation) -> Result:
        return operation.perform(self.stores[unit])


class Load:
    """One schedule.

    due        ExpStatSN of each connection when all that has come is acknowledged
    owed       likewise, when only responses are
    told       what the target knows of it
    functions  tags that are not answered
    """

    def __init__(self, seed: int, reporting: str, kind: type[Lab]) -> None:
        self.random = Random(seed)
        self.lab = kind()
        leading = self.lab.session("a", offers=[("MaxConnections", "4"), ("TaskReporting", reporting)])
        self.hosts = [leading, *(leading.join(cid) for cid in range(1, CONNECTIONS))]
        self.due: dict[Host, int] = {}
        self.owed: dict[Host, int] = {}
        self.told: dict[Host, int] = {}
        self.functions: set[int] = set()
        self.standing: tuple[Host, int] | None = None  # a fenced response, and the ExpStatSN that acknowledges it
        self.fenced = 0
        for host in self.hosts:
            self.acknowledge(host)
            [pong] = [pdu.header for pdu in host.received if pdu.header.initiator_task_tag == PING]
            self.due[host] = self.owed[host] = self.told[host] = pong.stat_sn + 1
            host.received.clear()

    def acknowledge(self, host: Host) -> None:
        """Pings, and acknowledges all that has come."""
        self.told[host] = self.due.get(host, 0)
        if self.standing is not None and self.standing[0] is host and self.told[host] >= self.standing[1]:
            self.standing = None
        host.send(NopOut(immediate=True, initiator_task_tag=PING, cmd_sn=host.cmd_sn, exp_stat_sn=self.told[host]))

    def step(self) -> None:
        host = self.random.choice(self.hosts)
        match self.random.randrange(8):
            case 0 if len(self.functions) < 8:
                self.functions.add(host.manage(self.random.choice(FUNCTIONS), self.random.randrange(2)))
            case 1 | 2:
                host.read(self.random.randrange(8), self.random.randrange(2))
            case 3:
                host.write(self.random.randrange(8), bytes(BLOCK), self.random.randrange(2))
            case 4:
                self.lab.slow = not self.lab.slow
                self.lab.finish_all()
            case _:
                self.acknowledge(host)
        self.take()

    def take(self) -> None:
        """Takes what has come.

        Law: a fenced response comes alone, when all before it is acknowledged; nothing comes until it is itself.
        """
        stood = self.standing
        came = [(host, pdu.header) for host in self.hosts for pdu in host.received]
        responses = [
            (host, header)
            for host, header in came
            if isinstance(header, ScsiResponse | TaskManagementResponse)
            or (isinstance(header, DataIn) and header.status_present)
        ]
        fenced = [each for each in responses if isinstance(each[1], TaskManagementResponse)]
        assert not (stood and responses), "a response overtakes one that is fenced"
        if fenced:
            assert len(responses) == 1, "a fenced response is not alone"
            assert all(self.told[host] >= self.owed[host] for host in self.hosts), (
                "a fenced response has overtaken others"
            )
            self.standing = (fenced[0][0], fenced[0][1].stat_sn + 1)
            self.fenced += 1
        for host, header in came:
            if isinstance(header, NopIn) and header.initiator_task_tag == PING:
                self.due[host] = max(self.due[host], header.stat_sn + 1)
        for host, header in responses:
            self.owed[host] = header.stat_sn + 1
            self.due[host] = max(self.due[host], self.owed[host])
            self.functions.discard(header.initiator_task_tag)
        for host in self.hosts:
            host.received.clear()

    def end(self) -> None:
        """Acknowledges everything until nothing waits any more."""
        self.lab.slow = False
        self.lab.finish_all()
        self.take()
        for _ in range(20 * len(self.hosts)):
            for host in self.hosts:
                self.acknowledge(host)
                self.take()


@pytest.mark.parametrize("kind", [Lab, Prompt])
@pytest.mark.parametrize("reporting", [RESPONSE_FENCE, FAST_ABORT])
def test_no_response_overtakes_a_fenced_one_and_all_come_in_the_end(reporting: str, kind: type[Lab]):
    """Law: as in `Load.take`; in the end every function is answered, and no task is open."""
    fenced = 0
    for seed in SEEDS:
        load = Load(seed, reporting, kind)
        for _ in range(STEPS):
            load.step()
        load.end()
        assert not load.functions, seed
        [summary] = load.lab.target.sessions()
        assert summary.open_tasks == 0, seed
        fenced += load.fenced
    assert fenced > 2 * len(SEEDS)
