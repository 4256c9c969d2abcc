"""The sequences of the catalogue of edge cases, by its names: what can be told as commands of several nexuses.

Left out is what needs the loss of a session or of power, tasks that are under way, or thousands of registrations;
tests/conformance/reservations has those.
"""

from collections.abc import Iterable, Iterator

from iscsi_target.scsi.layouts.block_cdb import (
    CompareAndWrite,
    Read6,
    Read10,
    Read16,
    ReadCapacity10,
    ReadCapacity16,
    SynchronizeCache10,
    SynchronizeCache16,
    Verify10,
    Write10,
    Write16,
)
from iscsi_target.scsi.layouts.cdb import (
    Inquiry,
    ModeSense6,
    Release6,
    Release10,
    ReportLuns,
    RequestSense,
    Reserve6,
    Reserve10,
    TestUnitReady,
)
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.reservations.personality import InAction, OutAction, ReservationType
from iscsi_target.wire.layout import Layout
from tools.differentials.steps import (
    NEXUSES,
    STRANGER,
    Destination,
    Flags,
    Sequence,
    Step,
    change,
    look,
    move,
    plain,
    sized,
)

KEYS = {"A": 0xA1, "AQ": 0xA2, "A2": 0xA1, "B": 0xB1, "C": 0xC1}
NOBODYS = 0x99
TYPES = tuple(int(kind) for kind in ReservationType)
WE, EA, WERO, EARO, WEAR, EAAR = TYPES
BLOCK = 512
REGISTER, RESERVE, RELEASE, CLEAR = OutAction.REGISTER, OutAction.RESERVE, OutAction.RELEASE, OutAction.CLEAR
PREEMPT, AND_ABORT = OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT
IGNORE = OutAction.REGISTER_AND_IGNORE_EXISTING_KEY
SPECIAL = (REGISTER, IGNORE, CLEAR)  # to which scope and type mean nothing


def registered(*nexuses: str) -> tuple[Step, ...]:
    """Returns what registers nexuses, each with a key of its own."""
    return tuple(change(nexus, REGISTER, (0, KEYS[nexus])) for nexus in nexuses)


def held(kind: int, *others: str) -> tuple[Step, ...]:
    """Returns what makes A hold a reservation while others are registered."""
    return (*registered("A", *others), change("A", RESERVE, (KEYS["A"], 0), kind))


def own(nexus: str, action: OutAction, kind: int = 0, new: int = 0) -> Step:
    """Returns a step with the nexus's own key."""
    return change(nexus, action, (KEYS[nexus], new), kind)


def leave(nexus: str) -> Step:
    """Returns what unregisters a nexus."""
    return own(nexus, REGISTER)


def write(nexus: str) -> Step:
    """Returns a write."""
    return plain(nexus, "WRITE(10)", Write10(lba=0, transfer_length=1), bytes(BLOCK))


def ready(nexus: str) -> Step:
    """Returns a step that only shows unit attentions."""
    return plain(nexus, "TEST UNIT READY", TestUnitReady())


Told = Iterator[tuple[str, Iterable[Step]]]


def _in() -> Told:
    three = registered("A", "B", "C")
    for action in InAction:
        for length in (0, 1, 2, 4, 6, 7, 8, 9, 12, 16, 23, 24, 40, 64, 4096):
            yield f"IN {action}, {length} bytes", (*held(WERO, "B", "C"), look("C", action, length))
            yield f"IN {action}, {length} bytes, no reservation", (look("A", action, length),)
    yield "IN-02", (change("A", REGISTER, (0, 1)), change("B", REGISTER, (0, 1)), look("C", InAction.READ_KEYS))
    for kind in TYPES:
        yield "IN-07, IN-08, IN-14, IN-15", (*held(kind, "B"), *(look("C", action) for action in InAction))
    yield "IN-13", (change("A", REGISTER, (0, 1), flags=Flags(aptpl=True)), look("A", InAction.REPORT_CAPABILITIES))
    everywhere = change("A", REGISTER, (0, 1), flags=Flags(all_tg_pt=True))
    yield "IN-16", (everywhere, *(look("B", action) for action in InAction))
    for number in (4, 5, 0x1F):
        yield "IN-20", (look("A", number),)
    yield "IN-18", (*three, *(look("A", InAction.READ_FULL_STATUS, length) for length in range(60, 300, 28)))


def _parameter_lists() -> Told:
    for length in (0, 8, 23, 25, 28, 280):
        for action in (REGISTER, RESERVE, OutAction.REGISTER_AND_MOVE):
            data = bytes(15) + b"\1" + bytes(280)
            step = sized("A", action, data[:length])
            yield "PV-01 to PV-04, RM-15", (step,)
            yield "PV-01 to PV-04, RM-15, registered", (*registered("A"), step)
    for scope in (0x10, 0x20, 0xF0):
        yield "PV-06", (*registered("A"), own("A", RESERVE, scope | WE))
        yield "PV-06, reserved", (*held(WERO, "B"), own("B", RESERVE, scope | WERO))
        yield "PV-06, PREEMPT", (*held(WE, "B", "C"), own("B", PREEMPT, scope | WE, KEYS["A"]))
        yield "PV-06, PREEMPT of another", (*held(WE, "B", "C"), own("B", PREEMPT, scope | WE, KEYS["C"]))
        yield "PV-08", (*held(WE), own("A", RELEASE, scope | WE))
    for action in SPECIAL:
        yield "PV-07, CL-08", (*registered("A"), change("A", action, (KEYS["A"], 7), 0xFF))
    for kind in (0, 2, 4, 9, 0xF):
        yield "PV-09", (*registered("A"), own("A", RESERVE, kind))
        yield "PV-10", (*held(WE), own("A", RELEASE, kind))
        yield "PV-11", (*registered("A", "B"), own("A", PREEMPT, kind, KEYS["B"]))
        yield "PV-11, reserved", (*held(WE, "B", "C"), own("B", PREEMPT, kind, KEYS["C"]))
        yield "PV-12, PE-10", (*held(WE, "B"), own("B", PREEMPT, kind))
        yield "PV-12", (*held(WE, "B"), own("B", PREEMPT, kind, KEYS["A"]))
        yield "PV-30", (*held(WE), change("C", RESERVE, (0, 0), kind))
    for number in (8, 9, 0x10, 0x1F):
        yield "PV-13, PV-14", (*registered("A"), change("A", number, (KEYS["A"], 7), WE))
    bad = (RESERVE, RELEASE, CLEAR, PREEMPT, AND_ABORT)
    for action in bad:
        yield "PV-15", (*registered("A", "B"), change("B", action, (NOBODYS, KEYS["A"]), WE))
        yield "PV-15, reserved", (*held(WERO, "B"), change("B", action, (NOBODYS, KEYS["A"]), WERO))
        yield "PV-16 to PV-19", (change("B", action, (0, KEYS["A"]), WE),)
        yield "PV-21", (*held(WE), change("B", action, (0, KEYS["A"]), WE))
        for flags in (Flags(listed=b""), Flags(all_tg_pt=True), Flags(aptpl=True)):
            yield "PV-22 to PV-24", (*held(WE, "B"), change("A", action, (KEYS["A"], KEYS["B"]), WE, flags))
    yield "PV-22", (*registered("A"), change("A", IGNORE, (0, 7), flags=Flags(listed=b"")))


def _registering() -> Told:
    ignore = change("A", IGNORE, (NOBODYS, KEYS["A"]))
    yield "RG-01", registered("A")
    yield "RG-02", (change("A", REGISTER),)
    yield "RG-03", (change("A", REGISTER, (NOBODYS, 1)),)
    yield "RG-04", (ignore,)
    yield "RG-05", (change("A", IGNORE, (NOBODYS, 0)),)
    for kind in TYPES:
        yield "RG-06, RG-07", (*held(kind, "B"), own("A", REGISTER, new=7), change("B", REGISTER, (KEYS["B"], 8)))
        yield "RG-14 to RG-20", (*held(kind, "B"), write("C"), leave("A"), ready("B"), ready("C"), leave("B"))
        yield "RG-21", (*held(kind, "B"), change("A", IGNORE, (NOBODYS, 0)), ready("B"))
        yield "RG-13", (*held(kind, "B"), leave("B"))
        yield "RG-23, RG-24", (*held(kind), write("B"), *registered("B"), write("B"))
    yield "RG-08", (*registered("A"), change("A", REGISTER, (NOBODYS, 2)))
    yield "RG-09", (*registered("A"), change("A", REGISTER, (0, KEYS["A"])))
    yield "RG-10", (*registered("A"), own("A", REGISTER, new=KEYS["A"]))
    yield "RG-11", (*registered("A"), change("A", IGNORE, (NOBODYS, 2)))
    yield "RG-12", (*registered("A"), change("B", REGISTER, (0, KEYS["A"])))
    yield "RG-25", (*held(WEAR), *registered("B"), own("B", RELEASE, WEAR))
    yield "RG-26", (*registered("A"), change("A", REGISTER, (KEYS["A"], 2), flags=_listing("B")))
    wide = Flags(all_tg_pt=True)
    yield "RG-27", (*registered("A"), change("A", REGISTER, (KEYS["A"], 2), flags=wide))
    yield "RG-27, ignoring", (*registered("A"), change("A", IGNORE, (0, 2), flags=wide))
    yield "RG-27, back", (change("A", REGISTER, (0, 1), flags=wide), change("A", REGISTER, (1, 2)))
    yield "RG-28", (change("A", REGISTER, (0, 1), flags=wide), change("A", IGNORE, (0, 0), flags=wide))
    yield "RG-28, one port", (change("A", REGISTER, (0, 1), flags=wide), change("A", IGNORE, (0, 0)))
    yield (
        "RG-28, reserved",
        (
            change("A", REGISTER, (0, 1), flags=wide),
            change("A", RESERVE, (1, 0), WERO),
            change("AQ", REGISTER, (1, 0), flags=wide),
        ),
    )
    yield (
        "RG-28, a holder",
        (
            change("A", REGISTER, (0, 1), flags=wide),
            change("A", RESERVE, (1, 0), WERO),
            change("A", REGISTER, (1, 0), flags=wide),
        ),
    )
    yield "RG-28, a stranger", (*registered("A"), change("AQ", IGNORE, (0, 0), flags=wide))
    yield "RG-29, the same key", (*registered("A"), change("AQ", IGNORE, (0, KEYS["A"]), flags=wide))
    yield "RG-29, the other way", (*registered("AQ"), change("A", IGNORE, (0, 1), flags=wide))
    yield "RG-29, with another key", (*registered("AQ"), change("A", REGISTER, (0, 1), flags=wide))
    yield "RG-29", (change("A", REGISTER, (0, 1), flags=wide), change("AQ", RESERVE, (1, 0), WE), write("A"))


def _listing(*names: str, all_tg_pt: bool = False) -> Flags:
    return Flags(all_tg_pt=all_tg_pt, listed=tuple(NEXUSES[name].initiator for name in names))


def _raw_listing(ids: bytes, length: int | None = None) -> Flags:
    return Flags(listed=(len(ids) if length is None else length).to_bytes(4, "big") + ids)


def _transport_ids() -> Told:
    b, c = (pack_transport_id(NEXUSES[name].initiator) for name in "BC")
    name = b[4:].split(b",")[0]
    device = b"\x05\0" + len(name + bytes(4 - len(name) % 4)).to_bytes(2, "big") + name + bytes(4 - len(name) % 4)
    lists = {
        "TI-01": Flags(listed=b""),
        "TI-02": _raw_listing(b, len(b) + 4),
        "TI-03": _raw_listing(b + bytes(4), len(b)),
        "TI-04": _raw_listing(b, len(b) - 1),
        "TI-05": _raw_listing(b + c[:-8]),
        "TI-06": _raw_listing(b"\x46" + b[1:]),
        "TI-07": _raw_listing(device),
        "TI-08": Flags(listed=(STRANGER,)),
        "TI-09": _raw_listing(b"\x85" + b[1:]),
        "TI-10": _raw_listing(b"\x45\0\0\x08" + b"iqn.x\0\0\0"),
        "TI-11": _raw_listing(b[:3] + bytes([b[3] - 1]) + b[4:]),
        "TI-12": _raw_listing(b[:4] + b[4:].replace(b"\0", b"x")),
        "TI-14": _raw_listing(b.replace(b",i,0x", b",i,0X")),
        "TI-15": _raw_listing(b.replace(b"iqn", b"IQN")),
        "TI-17": _listing("B", "B"),
        "TI-19": _listing("A", "B"),
        "TI-20": _raw_listing(b""),
        "TI-22": _listing("B", "C", all_tg_pt=True),
        "one port": _listing("B"),
        "two ports": _listing("B", "C"),
    }
    for case, flags in lists.items():
        yield case, (change("A", REGISTER, (0, 1), flags=flags), look("C", InAction.READ_FULL_STATUS))
    yield "TI-18", (*registered("B"), change("A", REGISTER, (0, 1), flags=_listing("B")))
    yield "TI-23", (change("A", REGISTER, (0, 0), flags=_listing("B")),)
    through_q = change("AQ", REGISTER, (0, 1), flags=_listing("B"))
    shared = change("B", REGISTER, (0, 1))
    yield "two ports, one itself", (shared, change("AQ", REGISTER, (0, 1), flags=_listing("A", "B")))
    both = Flags(all_tg_pt=True, listed=(STRANGER,))
    yield "TI-08, TI-22", (*registered("AQ"), change("A", REGISTER, (0, 1), flags=both))
    yield "two ports, one registered", (*registered("B"), change("AQ", REGISTER, (0, 1), flags=_listing("B", "C")))
    yield "one port, through Q", (through_q, change("B", RESERVE, (1, 0), WE))


def _reserving() -> Told:
    for kind in TYPES:
        yield "RS-01 to RS-07", (*held(kind, "B"), own("A", RESERVE, kind), own("B", RESERVE, kind), write("B"))
        for other in TYPES:
            yield "RS-08", (*held(kind), own("A", RESERVE, other))
        yield "RL-01 to RL-06", (*held(kind, "B"), write("C"), own("A", RELEASE, kind), ready("B"), ready("C"))
        yield "RL-07", (*held(kind, "B"), own("A", RELEASE, EA if kind == WE else WE))
        yield "RL-05, RL-08", (*held(kind, "B"), own("B", RELEASE, kind), ready("A"))
        yield "RL-10", (*held(kind, "B"), change("B", RELEASE, (NOBODYS, 0), kind))
        yield "RL-11", (*held(kind), change("B", RELEASE, (0, 0), kind))
        yield "CL-01", (*held(kind, "B"), write("C"), own("A", CLEAR), ready("B"), ready("C"), own("A", CLEAR))
        yield "CL-02", (*held(kind, "B"), own("B", CLEAR), ready("A"))
    yield "RS-13", (*registered("A"), own("A", RESERVE, WE, 7))
    yield "RS-15", (*registered("A", "B"), change("B", RESERVE, (KEYS["A"], 0), WE))
    wide = change("A", REGISTER, (0, 1), flags=Flags(all_tg_pt=True))
    yield "RS-16", (wide, change("A", RESERVE, (1, 0), WERO), change("AQ", RESERVE, (1, 0), WERO), write("AQ"))
    yield "RL-09", (*registered("A"), own("A", RELEASE, WE))
    yield "RL-10, no reservation", (*registered("A"), change("A", RELEASE, (NOBODYS, 0), WE))
    yield "CL-03", (*registered("A", "B"), own("A", CLEAR), ready("B"))


def _preempting() -> Told:
    for action in (PREEMPT, AND_ABORT):
        ab = registered("A", "B")
        yield "PE-01, PA-05", (*ab, own("A", action, WE, KEYS["B"]), ready("B"))
        yield "PE-02, PA-06", (*registered("A"), own("A", action, WE, NOBODYS))
        yield "PE-03", (*registered("A"), own("A", action, WE, 0))
        yield "PE-04", (*registered("A"), own("A", action, WE, KEYS["A"]))
        for kind in TYPES:
            three = held(kind, "B", "C")
            for new in TYPES:
                yield "PE-05 to PE-07", (*three, own("B", action, new, KEYS["A"]), ready("A"), ready("C"))
                yield "PE-16, PE-17", (*three, own("A", action, new, KEYS["A"]), ready("B"))
                yield "PE-10 to PE-12, PA-07", (*three, own("B", action, new), ready("A"), ready("C"))
            yield "PE-08", (*three, own("B", action, kind, KEYS["C"]), ready("C"))
            yield "PE-09", (*three, own("B", action, kind, NOBODYS))
            yield "PE-13", (*three, own("B", action, WE, KEYS["A"]))
            yield "PE-14, PE-20", (*three, own("B", action, WE, KEYS["B"]))
            yield "PE-15", (*held(kind), own("A", action, WE))
            yield "PE-22", (*held(kind), change("B", action, (0, KEYS["A"]), kind))
    for kind in (WEAR, EAAR):
        yield "PE-14, A left", (*held(kind, "B"), leave("A"), own("B", PREEMPT, EARO, KEYS["B"]))
    old = change("A2", REGISTER, (0, KEYS["A"]))
    yield "PE-18", (*held(WERO), old, own("A", PREEMPT, WERO, KEYS["A"]))
    dead = (old, change("A2", RESERVE, (KEYS["A"], 0), WERO), *registered("A"))
    yield "PE-19", (*dead, own("A", PREEMPT, WERO, KEYS["A"]))
    for kind in TYPES:
        yield "NX-03", (*held(kind), write("A2"), plain("A2", "READ(10)", Read10(transfer_length=1), read_length=BLOCK))
    paths = (change("AQ", REGISTER, (0, KEYS["A"])), *held(WERO, "B"))
    yield "PE-21", (*paths, change("AQ", PREEMPT, (KEYS["A"], KEYS["A"]), WERO))


def _moving() -> Told:
    port = NEXUSES["B"].initiator
    b = Destination(port)
    for kind in TYPES:
        hold = held(kind)
        yield "RM-01, RM-10", (*hold, move("A", (KEYS["A"], 9), b), write("A"), write("B"))
        yield "RM-02", (*hold, move("A", (KEYS["A"], 9), b._replace(unregister=True)), write("A"), write("B"))
        yield "RM-03", (*held(kind, "B"), move("A", (KEYS["A"], 9), b))
        yield "RM-08", (*held(kind, "B"), move("B", (KEYS["B"], 9), Destination(NEXUSES["C"].initiator)))
        yield "RM-09", (*hold, move("B", (0, 9), b))
    hold = held(WERO)
    yield "RM-04", (*hold, move("A", (KEYS["A"], 0), b))
    yield "RM-05", (*hold, move("A", (KEYS["A"], 9), Destination(NEXUSES["A"].initiator)))
    yield "RM-06", (*hold, move("A", (KEYS["A"], 9), Destination(NEXUSES["A"].initiator, 2)))
    yield "RM-07", (*registered("A"), move("A", (KEYS["A"], 9), b))
    yield "RM-09, no reservation", (move("A", (0, 9), b),)
    yield "RM-11", (*hold, move("A", (NOBODYS, 9), b))
    yield "RM-12", (*hold, move("A", (KEYS["A"], 9), b._replace(target=77)))
    yield "RM-16", (*hold, move("A", (KEYS["A"], 9), Destination(b"\x05" + pack_transport_id(port)[1:])))
    yield "RM-17", (*hold, move("A", (KEYS["A"], 9), Destination(b"\x46" + pack_transport_id(port)[1:])))
    yield "RM-18", (*hold, move("A", (KEYS["A"], 9), b, 0xFF))
    yield "RM-19", (*hold, move("A", (KEYS["A"], 9), b._replace(aptpl=True)))
    yield "RM-20", (*hold, move("A", (KEYS["A"], 9), Destination(STRANGER, 1, unregister=True)))
    yield "through Q", (*hold, move("A", (KEYS["A"], 9), b._replace(target=2)), look("C", InAction.READ_FULL_STATUS))


def _power_loss() -> Told:
    lasting = Flags(aptpl=True)
    first = change("A", REGISTER, (0, 1), flags=lasting)
    yield "AP-03", (first, *registered("B"))
    yield "AP-04", (*registered("A"), change("A", IGNORE, (0, 1), flags=lasting))
    yield "AP-05", (first, change("A", RESERVE, (1, 0), WE), change("A", RELEASE, (1, 0), WE))
    yield "AP-06", (first, change("A", REGISTER, (NOBODYS, 2)))
    yield "AP-07", (first, change("A", REGISTER, (1, 0), flags=lasting))
    yield "CL-07", (first, change("A", CLEAR, (1, 0)))


def _older() -> Told:
    six, release = Reserve6(), Release6()
    reserve = plain("A", "RESERVE(6)", six)
    yield (
        "S2-01 to S2-03",
        (reserve, *(change(nexus, REGISTER, (0, 1)) for nexus in "AB"), look("B", InAction.READ_KEYS)),
    )
    yield "S2-04", (*registered("A"), reserve)
    for kind in TYPES:
        for nexus in ("A", "B", "C"):
            older = (plain(nexus, "RESERVE(6)", six), plain(nexus, "RELEASE(6)", release))
            newer = (plain(nexus, "RESERVE(10)", Reserve10()), plain(nexus, "RELEASE(10)", Release10()))
            yield "S2-05 to S2-08", (*held(kind, "B"), *older, *newer)
        yield "S2-06, RELEASE", (*held(kind, "B"), plain("B", "RELEASE(6)", release))
        yield "S2-06, A left", (*held(kind, "B"), leave("A"), plain("B", "RESERVE(6)", six))
    yield (
        "S2-09",
        (reserve, plain("B", "RELEASE(6)", release), write("B"), plain("A", "RELEASE(6)", release), write("B")),
    )
    yield "S2-11", (plain("A", "RESERVE(10)", Reserve10(third_party=True)),)
    yield "S2-12", (reserve, *(step for step in _commands("B")))


def _commands(nexus: str) -> Iterator[Step]:
    """Returns a command of every row of the matrix that both targets have, and that leaves no trace."""
    reads: dict[str, tuple[Layout, int]] = {
        "INQUIRY": (Inquiry(allocation_length=36), 36),
        "REPORT LUNS": (ReportLuns(allocation_length=64), 64),
        "REQUEST SENSE": (RequestSense(allocation_length=18), 18),
        "MODE SENSE(6)": (ModeSense6(page_code=0x0A, allocation_length=64), 64),
        "READ CAPACITY(10)": (ReadCapacity10(), 8),
        "READ CAPACITY(16)": (ReadCapacity16(allocation_length=32), 32),
        "READ(6)": (Read6(transfer_length=1), BLOCK),
        "READ(10)": (Read10(transfer_length=1), BLOCK),
        "READ(16)": (Read16(transfer_length=1), BLOCK),
        "TEST UNIT READY": (TestUnitReady(), 0),
        "VERIFY(10)": (Verify10(verification_length=1), 0),
        "SYNCHRONIZE CACHE(10)": (SynchronizeCache10(), 0),
        "SYNCHRONIZE CACHE(16)": (SynchronizeCache16(), 0),
    }
    for name, (cdb, length) in reads.items():
        yield plain(nexus, name, cdb, read_length=length)
    writes: dict[str, tuple[Layout, int]] = {
        "WRITE(10)": (Write10(transfer_length=1), BLOCK),
        "WRITE(16)": (Write16(transfer_length=1), BLOCK),
        "COMPARE AND WRITE": (CompareAndWrite(number_of_logical_blocks=1), 2 * BLOCK),
    }
    for name, (cdb, length) in writes.items():
        yield plain(nexus, name, cdb, bytes(length))


def _matrix() -> Told:
    for kind in TYPES:
        for nexus in ("A", "B", "C"):
            for step in _commands(nexus):
                yield f"2.O {step.command}", (*held(kind, "B"), step)


def _attentions() -> Told:
    """Returns the cases in which unit attentions come in the way of commands."""
    taken = (*held(EA, "B", "C"), own("B", PREEMPT, EA, KEYS["A"]))
    yield "UA-01, PE-23", (*taken, write("A"), write("A"))
    yield "PE-24", (*taken, change("A", REGISTER, (0, 1)), change("A", REGISTER, (0, 1)))
    yield "IN-21", (*taken, look("A", InAction.READ_KEYS), look("A", InAction.READ_KEYS))
    yield "PE-26", (*registered("A", "B"), own("A", PREEMPT, WE, KEYS["B"]), own("B", PREEMPT, WE, KEYS["A"]))
    again = (change("A", REGISTER, (0, KEYS["A"])), own("C", PREEMPT, EA, KEYS["A"]))
    yield "UA-02", (*taken[:-1], own("B", PREEMPT, EA, KEYS["A"]), *again, ready("A"), ready("A"))
    both = (*held(WERO, "B", "C"), own("A", RELEASE, WERO), own("A", PREEMPT, WE, KEYS["B"]))
    yield "UA-03", (*both, ready("B"), ready("B"))
    inquiry = plain("A", "INQUIRY", Inquiry(allocation_length=36), read_length=36)
    luns = plain("A", "REPORT LUNS", ReportLuns(allocation_length=64), read_length=64)
    yield "UA-04", (*taken, inquiry, luns, ready("A"))


def cases() -> Iterator[Sequence]:
    """Returns all of them."""
    for group in (
        *(_in, _parameter_lists, _registering, _transport_ids, _reserving, _preempting),
        *(_moving, _power_loss, _older, _matrix),
    ):
        for name, steps in group():
            yield Sequence(name, tuple(steps))
    for name, steps in _attentions():
        yield Sequence(name, tuple(steps), asks=False)
