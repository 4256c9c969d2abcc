"""Initiators against a target with rules: a `Lab` whose hosts are read, and sent to, only as `Flow` says."""

from collections.abc import Iterable

from iscsi_target.faults.grammar import parse
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.target import Action, FaultFired, Flow, MisbehavingTarget, Send
from tests.initiator import Host, Lab


class FaultLab(Lab):
    """Drives one target that misbehaves on order."""

    target: MisbehavingTarget
    target_type = MisbehavingTarget

    def add(self, *rules: str) -> None:
        for rule in rules:
            self.target.add_fault(parse(rule))

    def remove(self, *names: str) -> None:
        self.run(self.target.remove_faults(names, self.now))

    def connect(self, name: str = "a", portal_group_tag: int = 1, address: str = "10.0.0.1:3260") -> "FaultyHost":
        host = FaultyHost(self, next(self._numbers), f"iqn.2026-01.org.example:{name}")
        self.hosts[host.number] = host
        self.run(self.target.connected(host.number, portal_group_tag, address, self.now))
        return host

    def run(self, actions: Iterable[Action]) -> None:
        for action in actions:
            host = self.hosts.get(getattr(action, "connection", 0))
            if isinstance(action, Flow):
                assert isinstance(host, FaultyHost)
                host.let_flow(reads=action.reads, writes=action.writes)
            elif isinstance(action, Send) and isinstance(host, FaultyHost) and not host.writes:
                host.unsent.append(b"".join(bytes(buffer) for buffer in action.buffers))
            else:
                super().run([action])

    @property
    def fired(self) -> list[str]:
        """The rules that have fired, and for what."""
        return [f"{event.rule} {event.pdu}" for event in self.announced(FaultFired)]


class FaultyHost(Host):
    """One connection of an initiator; what is kept from either side waits in `unread` and `unsent`."""

    def __init__(self, lab: Lab, number: int, name: str) -> None:
        super().__init__(lab, number, name)
        self.reads = self.writes = True
        self.unread: list[bytes] = []
        self.unsent: list[bytes] = []

    def feed(self, data: Buffer) -> None:
        if self.reads:
            super().feed(data)
        else:
            self.unread.append(bytes(data))

    def let_flow(self, *, reads: bool, writes: bool) -> None:
        self.reads, self.writes = reads, writes
        while self.writes and self.unsent and not self.closed:
            self.take_in(self.unsent.pop(0))
        while self.reads and self.unread:
            super().feed(self.unread.pop(0))
