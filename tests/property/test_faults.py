"""A target with rules: whatever they say it neither fails nor leaks, and those that nothing fits change nothing."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.faults.acting import _ACTIONS
from iscsi_target.faults.grammar import parse
from iscsi_target.faults.kinds import KINDS
from iscsi_target.faults.reading import RuleError
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.target import FaultFired
from tests.faults import FaultLab
from tests.initiator import READY, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK

ACTIONS = [
    "drop",
    "duplicate",
    "close",
    "delay 1s",
    "delay 20s",
    "reorder",
    "reorder 5",
    "stall",
    "stall 3s",
    "hang",
    "corrupt header-digest",
    "corrupt data-digest",
    "corrupt data",
    "change stat_sn by 1",
    "change initiator_task_tag by 1",
    "change cmd_sn by 1",
    "change exp_cmd_sn by 5",
    "change target_transfer_tag to 3",
    "change data_sn by 1",
    "change expected_data_transfer_length by 512",
    "change opcode to 4",
    "answer busy",
    "answer sense 3/11/00",
    "attention 29/00",
    "refuse 0301",
]
CONDITIONS = ["", "nth=2", "every=3", "probability=0.5", "times=2", "lun=0", "initiator=*:a", "opcode=WRITE(10)"]


@st.composite
def rules(draw: st.DrawFn) -> str:
    kind, action, condition = (draw(st.sampled_from(each)) for each in ([*KINDS], ACTIONS, CONDITIONS))
    text = f"on {kind}{' where ' if condition else ''}{condition}: {action}"
    try:
        parse(text)
    except RuleError:
        return f"on {kind}: drop"
    return text


def give_asked(host: Host) -> None:
    asked = [pdu.header for pdu in host.received if isinstance(pdu.header, ReadyToTransfer)]
    host.received.clear()
    for header in asked:
        host.data_out(header, ONES)


STEPS: list[Callable[[Lab, Host], object]] = [
    lambda lab, host: host.read(0),
    lambda lab, host: host.read(1, lun=1),
    lambda lab, host: host.write(2, ONES),
    lambda lab, host: host.ask_to_write(3),
    lambda lab, host: host.command(READY),
    lambda lab, host: give_asked(host),
    lambda lab, host: host.send(NopOut(immediate=True, initiator_task_tag=host.next_tag(), cmd_sn=host.cmd_sn), b"?"),
    lambda lab, host: host.manage(TaskManagement.LOGICAL_UNIT_RESET),
    lambda lab, host: host.abort(3),
    lambda lab, host: host.ask([("SendTargets", "All")]),
    lambda lab, host: host.logout(),
    lambda lab, host: lab.wait(1),
    lambda lab, host: lab.wait(7),
    lambda lab, host: lab.finish_all(),
    lambda lab, host: host.cut(),
]


class Run:
    """Two hosts and what they do; `came` is every byte that the target sends to them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.slow = True
        self.came: list[tuple[int, bytes]] = []
        self.hosts = [self.connect(name) for name in "ab"]

    def connect(self, name: str) -> Host:
        host = self.lab.connect(name)
        taken_in = host.take_in

        def take_in(sent: bytes) -> None:
            self.came.append((host.number, sent))
            try:
                taken_in(sent)
            except Exception:  # what a misbehaving target sends may be beyond reading
                host.received.clear()

        host.take_in = take_in  # type: ignore[method-assign]  # a spy
        host.login()
        return host

    def step(self, which: int, step: int) -> None:
        host = self.hosts[which]
        if host.closed:
            self.hosts[which] = self.connect("ab"[which])
        else:
            STEPS[step](self.lab, host)

    def end(self) -> None:
        for host in self.hosts:
            if not host.closed:
                host.cut()
        self.lab.finish_all()


PLANS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, len(STEPS) - 1)), max_size=40)


@given(texts=st.lists(rules(), max_size=5), plan=PLANS, removed=st.integers(0, 40))
def test_a_target_with_rules_never_fails_and_nothing_is_left(texts: list[str], plan: list, removed: int):
    """Law: any rules, any initiators, any order: no exception, and after all connections are gone nothing is there."""
    lab = FaultLab()
    lab.add(*texts)
    run = Run(lab)
    for number, (which, step) in enumerate(plan):
        if number == removed and texts:
            lab.remove("1")
        run.step(which, step)
    run.end()
    assert lab.clean
    assert not lab.target._taps
    assert not lab.target._held
    assert not len(lab.target._dispatcher._rests)


@given(plan=PLANS)
def test_rules_that_nothing_fits_change_no_byte(plan: list):
    """Law: what a target sends beside rules that are about nothing is what it sends without them."""
    labs = Lab(), FaultLab()
    labs[1].add("on any where initiator=nobody: drop", "on any where nth=1000000: close", "on in where lun=99: drop")
    runs = [Run(lab) for lab in labs]
    for which, step in plan:
        for run in runs:
            run.step(which, step)
    for run in runs:
        run.end()
    assert runs[0].came == runs[1].came
    assert not labs[1].announced(FaultFired)


@given(texts=st.lists(rules(), max_size=5), plan=PLANS)
def test_the_same_rules_do_the_same_again(texts: list[str], plan: list):
    """Law: rules and input decide everything."""
    runs = []
    for _ in range(2):
        lab = FaultLab()
        lab.add(*texts)
        run = Run(lab)
        for which, step in plan:
            run.step(which, step)
        run.end()
        runs.append((run.came, lab.fired, lab.target.faults))
    assert runs[0] == runs[1]


def test_every_action_is_tried():
    assert {text.partition(" ")[0] for text in ACTIONS} == set(_ACTIONS)
