"""Faults by script: rules as values that say which outgoing PDU is to suffer what.

A rule concerns the PDUs of one kind, from the nth that goes out after the rule was added. The script is as reproducible
as the traffic. A rule that has done its work is gone; `pending` tells of those that have not, such as one that was to
corrupt a digest where none is in use.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from iscsi_target.iscsi.framing import Buffer, frame
from iscsi_target.iscsi.requests import Request
from iscsi_target.wire.codec import Form

FLIPPED = 0xFF
FILLED = ("total_ahs_length", "data_segment_length")  # when the PDU is framed


class Outgoing(NamedTuple):
    """A PDU on its way out, and what is wrong with it.

    flips_header_digest, flips_data_digest    whether the digest is made wrong, if there is one
    cut                                       after how many bytes the connection ends; None leaves it whole
    """

    header: Request
    data: Buffer = b""
    additional: bytes = b""
    flips_header_digest: bool = False
    flips_data_digest: bool = False
    cut: int | None = None

    def pack(self, *, header_digest: bool, data_digest: bool) -> list[Buffer]:
        """Returns the buffers of the PDU, with digests where they are in use, and faults where they were ordered."""
        buffers = frame(self.header, self.data, self.additional, header_digest=header_digest, data_digest=data_digest)
        if self.flips_header_digest and header_digest:
            buffers[1] = _flipped(buffers[1])
        if self.flips_data_digest and data_digest and self.data:
            buffers[-1] = _flipped(buffers[-1])
        return buffers if self.cut is None else [b"".join(buffers)[: self.cut]]


def _width_bits(kind: type[Request], name: str) -> int:
    """Returns how many bits a number of the header has; the lengths of the PDU are not of them: they follow from it."""
    for field in kind.declared:
        if field.name == name and field.form in (Form.NUMBER, Form.BITS) and name not in FILLED:
            return field.width_bits
    raise ValueError(f"{kind.__name__} has no number {name!r}")


def _flipped(digest: Buffer) -> bytes:
    return bytes(byte ^ FLIPPED for byte in digest)


class Drop(NamedTuple):
    """The PDU is not sent."""


class Duplicate(NamedTuple):
    """The PDU is sent twice."""


class Delay(NamedTuple):
    """The PDU is sent after so many later ones of its connection, of whatever kind."""

    pdus: int


class CorruptHeaderDigest(NamedTuple):
    """The header digest is wrong; the rule waits for a PDU that has one."""


class CorruptDataDigest(NamedTuple):
    """The data digest is wrong; the rule waits for a PDU that has one."""


class Cut(NamedTuple):
    """The connection ends after so many bytes of the PDU."""

    size_bytes: int


class Renumber(NamedTuple):
    """A number of the header is wrong by so many: "cmd_sn", "exp_stat_sn", "data_sn", "buffer_offset" ..."""

    field: str
    by: int


Fault = Drop | Duplicate | Delay | CorruptHeaderDigest | CorruptDataDigest | Cut | Renumber


class Rule(NamedTuple):
    """Says which PDUs suffer a fault.

    kind     their layout: ScsiCommand, DataOut ...
    fault    what happens to them
    nth      the first of them, counted from 1 after the rule was added
    times    how many of them
    """

    kind: type[Request]
    fault: Fault
    nth: int = 1
    times: int = 1


@dataclass(slots=True)
class _Armed:
    rule: Rule
    seen: int = 0
    done: int = 0


@dataclass(slots=True)
class _Held:
    outgoing: Outgoing
    remaining: int


class FaultScript:
    """Applies rules to what goes out of a session.

    rules    the first that concerns a PDU is the one that counts
    raises   ValueError when a rule renumbers what is no number of its PDUs, or counts from too little
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._armed: list[_Armed] = []
        self._held: list[_Held] = []
        for rule in rules:
            self.add(rule)

    def for_connection(self) -> "FaultScript":
        """Returns a script of the same rules that holds back the PDUs of one connection."""
        script = FaultScript()
        script._armed = self._armed
        return script

    def add(self, rule: Rule) -> None:
        """Adds a rule after those that there are."""
        match rule.fault:
            case Renumber(field, _):
                _width_bits(rule.kind, field)
            case Delay(number) | Cut(number):
                if number < 0:
                    raise ValueError(f"{rule.fault} counts from 0")
        if rule.nth < 1 or rule.times < 1:
            raise ValueError("a rule counts from 1")
        self._armed.append(_Armed(rule))

    @property
    def pending(self) -> tuple[Rule, ...]:
        """The rules that have not done all their work."""
        return tuple(armed.rule for armed in self._armed)

    def apply(self, outgoing: Outgoing, *, header_digest: bool, data_digest: bool) -> Iterator[Outgoing]:
        """Yields what goes out instead of a PDU, and then what was held back until now.

        header_digest, data_digest    which of them the connection uses
        """
        if not self._armed and not self._held:
            yield outgoing
            return
        held = list(self._held)
        digests = (header_digest, data_digest and len(outgoing.data) > 0)
        yield from self._suffer(outgoing, self._fault_of(outgoing, *digests))
        yield from self._let_go(held)

    def _let_go(self, held: list[_Held]) -> Iterator[Outgoing]:
        """Yields those of the PDUs that were held before for which enough others have gone out."""
        for item in held:
            item.remaining -= 1
        due = [item for item in held if item.remaining <= 0]
        self._held = [item for item in self._held if item not in due]
        yield from (item.outgoing for item in due)

    def _fault_of(self, outgoing: Outgoing, header_digest: bool, data_digest: bool) -> Fault | None:
        """Returns what a PDU is to suffer, and lets every rule that concerns its kind count it."""
        found: _Armed | None = None
        for armed in self._armed:
            rule = armed.rule
            if type(outgoing.header) is not rule.kind:
                continue
            if isinstance(rule.fault, CorruptHeaderDigest) and not header_digest:
                continue
            if isinstance(rule.fault, CorruptDataDigest) and not data_digest:
                continue
            armed.seen += 1
            if found is None and armed.seen >= rule.nth:
                found = armed
        if found is None:
            return None
        found.done += 1
        if found.done == found.rule.times:
            self._armed.remove(found)
        return found.rule.fault

    def _suffer(self, outgoing: Outgoing, fault: Fault | None) -> Iterator[Outgoing]:
        match fault:
            case Drop():
                return
            case Delay(pdus):
                self._held.append(_Held(outgoing, pdus))
            case Duplicate():
                yield outgoing
                yield outgoing
            case CorruptHeaderDigest():
                yield outgoing._replace(flips_header_digest=True)
            case CorruptDataDigest():
                yield outgoing._replace(flips_data_digest=True)
            case Cut(size_bytes):
                yield outgoing._replace(cut=size_bytes)
            case Renumber(field, by):
                header = outgoing.header
                wrong = (getattr(header, field) + by) % (1 << _width_bits(type(header), field))
                yield outgoing._replace(header=header.replace(**{field: wrong}))
            case None:
                yield outgoing
