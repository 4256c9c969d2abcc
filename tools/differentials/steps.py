"""Steps: commands as the comparison sends them, and sequences of these.

The nexuses are those of the drawing:

    initiator a, ISID 1  -- A --  port P (relative identifier 1)
    initiator a, ISID 1  -- AQ -- port Q (relative identifier 2)
    initiator a, ISID 2  -- A2 -- port P
    initiator b          -- B --  port P
    initiator c          -- C --  port P
    initiator o          -- O --  port P; it looks at what the others do, and is in no sequence
"""

from typing import NamedTuple

from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList, MoveParameterList, TransportIdList
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.wire.layout import Layout

NAME = "iqn.2026-11.org.example"
ALL = 4096  # an allocation length for everything that there is


class Port(NamedTuple):
    """Where a nexus is between.

    initiator   its name and ISID
    target      the relative identifier of the target port
    """

    initiator: InitiatorPort
    target: int


def _initiator(letter: str, number: int = 1) -> InitiatorPort:
    return InitiatorPort(f"{NAME}:{letter}", bytes([0x80, 0, 0, 0, ord(letter), number]))


OBSERVER = "O"
NEXUSES = {
    "A": Port(_initiator("a"), 1),
    "AQ": Port(_initiator("a"), 2),
    "A2": Port(_initiator("a", 2), 1),
    "B": Port(_initiator("b"), 1),
    "C": Port(_initiator("c"), 1),
    OBSERVER: Port(_initiator("o"), 1),
}
STRANGER = InitiatorPort(f"{NAME}:stranger", bytes([0x80, 0, 0, 0, 0, 9]))  # has never logged in


class Step(NamedTuple):
    """A command of a nexus.

    nexus         its name in the drawing
    command       its name, or that of the service action
    detail        what else it says, for a reader
    cdb           bytes
    data_out      what it writes
    read_length   for how many bytes of data there is room
    """

    nexus: str
    command: str
    detail: str
    cdb: bytes
    data_out: bytes = b""
    read_length: int = 0

    def __str__(self) -> str:
        return f"{self.nexus}: {self.command.partition(' with ')[0]}{self.detail and f' {self.detail}'}"


class Sequence(NamedTuple):
    """Steps from a unit without registrations on.

    name     a case of the catalogue, or a seed
    steps    in their order
    asks     whether all nexuses of the sequence are asked for their unit attentions after each step; otherwise these
             come in the way of commands
    """

    name: str
    steps: tuple[Step, ...]
    asks: bool = True

    @property
    def cast(self) -> tuple[str, ...]:
        """The nexuses that the sequence is about."""
        return tuple(dict.fromkeys(step.nexus for step in self.steps))


def plain(nexus: str, command: str, cdb: Layout, data_out: bytes = b"", *, read_length: int = 0) -> Step:
    """Returns a step of any command; LIO drops the connection when it is to return more than its CDB asks for."""
    return Step(nexus, command, "", cdb.pack(), data_out, read_length)


def look(nexus: str, action: InAction | int, allocation_length: int = ALL) -> Step:
    """Returns a step of PERSISTENT RESERVE IN."""
    cdb = PersistentReserveIn(service_action=action, allocation_length=allocation_length)
    detail = "" if allocation_length == ALL else f"allocation length {allocation_length}"
    name = str(action) if isinstance(action, InAction) else "PERSISTENT RESERVE IN, reserved"
    return Step(nexus, name, detail, cdb.pack(), read_length=allocation_length)


class Flags(NamedTuple):
    """The bits of the basic parameter list.

    listed   the initiator ports of SPEC_I_PT, or what stands in their place; None without it
    """

    aptpl: bool = False
    all_tg_pt: bool = False
    listed: tuple[InitiatorPort, ...] | bytes | None = None

    @property
    def text(self) -> str:
        """What a reader is told of them."""
        said = ", APTPL" * self.aptpl + ", ALL_TG_PT" * self.all_tg_pt
        if self.listed is None:
            return said
        ports = isinstance(self.listed, tuple) and " and ".join(map(_initiator_name, self.listed))
        return f"{said}, SPEC_I_PT with {ports or 'a list that is wrong'}"

    @property
    def names(self) -> str:
        """Those that matter to what a difference is about."""
        said = " with SPEC_I_PT" * (self.listed is not None) + " with ALL_TG_PT" * self.all_tg_pt
        return said.replace("T with", "T and")

    def pack(self) -> bytes:
        """Returns what follows the basic parameter list."""
        if not isinstance(self.listed, tuple):
            return self.listed or b""
        ids = b"".join(map(pack_transport_id, self.listed))
        return TransportIdList(transportid_parameter_data_length=len(ids)).pack() + ids


NO_FLAGS = Flags()


def _initiator_name(port: InitiatorPort) -> str:
    return f"{port.name.removeprefix(f'{NAME}:')}{'' if port.isid[-1] != 2 else ', ISID 2'}"


def change(
    nexus: str, action: OutAction | int, keys: tuple[int, int] = (0, 0), kind: int = 0, flags: Flags = NO_FLAGS
) -> Step:
    """Returns a step of PERSISTENT RESERVE OUT with the basic parameter list.

    keys    RESERVATION KEY and SERVICE ACTION RESERVATION KEY
    kind    the type, and the scope in the bits above
    """
    data = (
        BasicParameterList(
            reservation_key=keys[0],
            service_action_reservation_key=keys[1],
            aptpl=flags.aptpl,
            all_tg_pt=flags.all_tg_pt,
            spec_i_pt=flags.listed is not None,
        ).pack()
        + flags.pack()
    )
    said = f", type {kind & 0xF:X}h" * bool(kind & 0xF) + f", scope {kind >> 4:X}h" * bool(kind >> 4)
    name = str(action) if isinstance(action, OutAction) else "PERSISTENT RESERVE OUT, reserved"
    detail = f"{keys[0]:X}h, {keys[1]:X}h{said}{flags.text}"
    return Step(nexus, name + flags.names, detail, _out(action, data, kind), data)


def sized(nexus: str, action: OutAction, data: bytes) -> Step:
    """Returns a step of PERSISTENT RESERVE OUT with any parameter list."""
    return Step(nexus, str(action), f"of {len(data)} bytes", _out(action, data, kind=1), data)


def _out(action: int, data: bytes, kind: int) -> bytes:
    return PersistentReserveOut(
        service_action=action, scope=kind >> 4, type=kind & 0xF, parameter_list_length=len(data)
    ).pack()


class Destination(NamedTuple):
    """Where REGISTER AND MOVE moves to.

    port           the initiator port, or a TransportID
    target         the relative identifier of the target port
    unregister     UNREG
    aptpl          APTPL
    """

    port: InitiatorPort | bytes
    target: int = 1
    unregister: bool = False
    aptpl: bool = False


def move(nexus: str, keys: tuple[int, int], to: Destination, kind: int = 0) -> Step:
    """Returns a step of REGISTER AND MOVE."""
    transport_id = to.port if isinstance(to.port, bytes) else pack_transport_id(to.port)
    data = MoveParameterList(
        reservation_key=keys[0],
        service_action_reservation_key=keys[1],
        unreg=to.unregister,
        aptpl=to.aptpl,
        relative_target_port_identifier=to.target,
        transportid_length=len(transport_id),
    ).pack()
    whom = "a TransportID" if isinstance(to.port, bytes) else _known_as(to.port, to.target)
    said = ", UNREG" * to.unregister + ", APTPL" * to.aptpl
    detail = f"{keys[0]:X}h, {keys[1]:X}h to {whom}{said}"
    action, data = OutAction.REGISTER_AND_MOVE, data + transport_id
    return Step(nexus, str(action), detail, _out(action, data, kind), data)


def _known_as(initiator: InitiatorPort, target: int) -> str:
    for name, port in NEXUSES.items():
        if port == Port(initiator, target):
            return name
    return f"{_initiator_name(initiator)} through port {target}"
