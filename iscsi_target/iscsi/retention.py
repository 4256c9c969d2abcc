"""What a connection has sent and the initiator has not acknowledged, so that it can be sent again.

A status is kept until ExpStatSN is past it, and Data-In and R2Ts of its task with it; an initiator that is asked to may
acknowledge Data-In before. What is sent again is what was sent before, byte for byte, but for ExpCmdSN and MaxCmdSN.

Decision: data is kept, not read again, because other commands may have changed the blocks since. It is kept by
reference, and not without end: when there is too much, what is oldest can no longer be sent again.

When the connection is gone at ErrorRecoveryLevel 2, what it has kept is taken out task by task, for another one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.responses import RESPONSE_HEADERS, DataIn, NopIn, ReadyToTransfer, Response, ScsiResponse
from iscsi_target.iscsi.transfer import Buffer, DataInPart, split
from iscsi_target.wire.serial import advance, before, distance

MAX_KEPT_BYTES = 16 << 20  # of Data-In and R2Ts of one connection; as much as its session may have under way
PDU_BYTES = 512  # that keeping a PDU costs beside its data
MAX_STATUSES = 1024  # that are not acknowledged; several windows of commands
MAX_STATUS_BYTES = 16 << 20  # of data that such statuses have: answers to pings may be long

DATA_OR_R2T, STATUS, DATA_ACK, R_DATA = 0, 1, 2, 3  # RFC7143 11.16.1


class Sent(NamedTuple):
    """One PDU as it went out."""

    header: Response
    data: Buffer


@dataclass(slots=True)
class _Task:
    """What went out for one command.

    sent          Data-In and R2Ts that are kept, by their number, ascending
    begin         the first number that is not acknowledged
    end           the number after the last
    first_data    the number of the first Data-In, or None when there was none
    size_bytes    what it counts for
    stat_sn       of its status, or None as long as that has not gone out
    """

    sent: dict[int, Sent] = field(default_factory=dict)
    begin: int = 0
    end: int = 0
    first_data: int | None = None
    size_bytes: int = 0
    stat_sn: int | None = None


class Leftover(NamedTuple):
    """What is to be sent for a command that is done, on another connection.

    parts     its Data-In, cut anew
    begin     the number of the first part
    status    with the numbers of the connection before
    sense     what goes with the status
    """

    parts: list[DataInPart]
    begin: int
    status: ScsiResponse
    sense: Buffer


class Retention:
    """Keeps what one connection sends.

    stat_sn    the next StatSN
    Source: RFC7143 4.2.2.2, 11.16

    kept_bytes  of Data-In and R2Ts
    """

    def __init__(self, stat_sn: int) -> None:
        self._acknowledged = stat_sn  # the first that is not
        self._statuses: dict[int, Sent] = {}  # by StatSN, ascending
        self._tasks: dict[int, _Task] = {}  # by initiator task tag, oldest first
        self._large: dict[int, None] = {}  # the tags of those that have something kept, likewise
        self._status_of: dict[int, int] = {}  # tag -> StatSN of the status of the command that had it last
        self.kept_bytes = 0
        self._status_bytes = 0

    @property
    def is_full(self) -> bool:
        """True when the initiator has acknowledged nothing for so long that it has to be given up."""
        return len(self._statuses) > MAX_STATUSES or self._status_bytes > MAX_STATUS_BYTES

    def note(self, packed: bytes, data: Buffer) -> None:
        """Keeps a PDU that goes out; packed is its header, numbered already."""
        header = RESPONSE_HEADERS.unpack(packed, 0)
        if isinstance(header, DataIn):
            self._keep(header.initiator_task_tag, header.data_sn, Sent(header, data))
            if not header.status_present:
                return
            data = b""  # it is among the Data-In of its task, as long as that is kept
        elif isinstance(header, ReadyToTransfer):
            self._keep(header.initiator_task_tag, header.r2t_sn, Sent(header, data))
            return
        elif isinstance(header, NopIn) and header.initiator_task_tag == NO_TAG:
            return
        if isinstance(header, DataIn | ScsiResponse):
            self._status_of[header.initiator_task_tag] = header.stat_sn
            task = self._tasks.get(header.initiator_task_tag)
            if task is not None:
                task.stat_sn = header.stat_sn
        self._statuses[header.stat_sn] = sent = Sent(header, data)
        self._status_bytes += len(sent.data)

    def _keep(self, tag: int, number: int, sent: Sent) -> None:
        task = self._tasks.setdefault(tag, _Task())
        if number < task.end or task.stat_sn is not None:  # the tag is in use again
            self._forget(tag)
            task = self._tasks[tag] = _Task()
        if task.first_data is None and isinstance(sent.header, DataIn):
            task.first_data = number
        task.sent[number] = sent
        task.end = number + 1
        task.size_bytes += PDU_BYTES + len(sent.data)
        self.kept_bytes += PDU_BYTES + len(sent.data)
        self._large[tag] = None
        self.shrink(MAX_KEPT_BYTES)

    def shrink(self, limit_bytes: int) -> None:
        """Forgets the oldest Data-In and R2Ts until no more are kept than allowed."""
        while self.kept_bytes > limit_bytes:
            task = self._tasks[next(iter(self._large))]
            self.kept_bytes -= task.size_bytes
            task.size_bytes = 0
            task.sent.clear()
            del self._large[next(iter(self._large))]

    def _forget(self, tag: int) -> None:
        task = self._tasks.pop(tag, None)
        self._large.pop(tag, None)
        if task is not None:
            self.kept_bytes -= task.size_bytes

    def acknowledge(self, exp_stat_sn: int) -> None:
        """Forgets the statuses before ExpStatSN, and what belongs to them; a number that cannot be is ignored."""
        if not 0 < distance(self._acknowledged, exp_stat_sn) <= len(self._statuses):
            return
        while self._acknowledged != exp_stat_sn:
            sent = self._statuses.pop(self._acknowledged)
            self._status_bytes -= len(sent.data)
            tag = sent.header.initiator_task_tag
            task = self._tasks.get(tag)
            if task is not None and task.stat_sn == self._acknowledged:
                self._forget(tag)
            if self._status_of.get(tag) == self._acknowledged:
                del self._status_of[tag]
            self._acknowledged = advance(self._acknowledged)

    def acknowledge_data(self, tag: int, begin: int) -> bool:
        """Forgets the Data-In of a task before a DataSN; returns False when that much has not gone out.

        Source: RFC7143 11.16.2
        """
        task = self._tasks.get(tag)
        if task is None or begin > task.end:
            return task is None  # the status may have been acknowledged meanwhile
        task.begin = max(task.begin, begin)
        for number in [number for number in task.sent if number < begin]:
            sent = task.sent.pop(number)
            task.size_bytes -= PDU_BYTES + len(sent.data)
            self.kept_bytes -= PDU_BYTES + len(sent.data)
        for number, (header, data) in task.sent.items():
            if isinstance(data, memoryview):  # a part, which would keep the whole in memory
                task.sent[number] = Sent(header, bytes(data))
        return True

    def discard(self, tag: int) -> None:
        """Forgets what went out for a task that has been aborted."""
        self._forget(tag)

    def statuses(self, begin: int, length: int) -> list[Sent] | None:
        """Returns the statuses of a run; None when some of them are acknowledged or have never been.

        length    0 for all from the first on
        Source: RFC7143 11.16.6, 11.16.7
        """
        end = advance(self._acknowledged, len(self._statuses))
        length = length or distance(begin, end)
        if before(begin, self._acknowledged) or not 0 <= length <= distance(begin, end):
            return None
        return [self._whole(self._statuses[advance(begin, ahead)]) for ahead in range(length)]

    def _whole(self, status: Sent) -> Sent:
        """Returns a status with the data that it went out with, or alone when that is not kept any more."""
        header = status.header
        if not isinstance(header, DataIn):
            return status
        task = self._tasks.get(header.initiator_task_tag)
        kept = None if task is None else task.sent.get(header.data_sn)
        if kept is not None and kept.header == header:
            return kept
        return Sent(_alone(header).replace(exp_data_sn=header.data_sn + 1), b"")

    def data(self, tag: int, begin: int, *, length: int) -> list[Sent] | None:
        """Returns the Data-In and R2Ts of a run; None when some of them are not kept or have never been.

        length    0 for all from the first on
        Source: RFC7143 11.16.6, 11.16.7
        """
        task = self._tasks.get(tag)
        if task is None or begin >= task.end or begin + length > task.end:
            return None
        return _run(task.sent, range(begin, begin + length if length else task.end))

    def cut_again(self, tag: int, snack_tag: int, *, burst: int, segment: int) -> list[Sent] | None:
        """Cuts all Data-In of a task again, for another length of segments; the status stands alone then.

        snack_tag    that the status carries, so that the initiator knows it from the one before
        returns      what is to be sent; None when not all of it is kept
        Source: RFC7143 11.16.3
        """
        task = self._tasks.get(tag)
        if task is None or tag not in self._status_of:
            return None
        status = self._statuses[self._status_of[tag]]
        parts = [sent for sent in task.sent.values() if isinstance(sent.header, DataIn)]
        if not parts or len(parts) < task.end:  # some is acknowledged, or it has had R2Ts: it is bidirectional
            return None
        cut = [Sent(_data_in(tag, number, part), part.data) for number, part in enumerate(_cut(parts, burst, segment))]
        self._forget(tag)
        for number, sent in enumerate(cut):
            self._keep(tag, number, sent)
        self._tasks[tag].stat_sn = status.header.stat_sn
        alone = Sent(_alone(status.header).replace(snack_tag=snack_tag, exp_data_sn=len(cut)), _sense(status))
        self._statuses[alone.header.stat_sn] = alone
        return [*cut, alone]

    # Of a connection that is gone

    def leave(self) -> None:
        """Forgets the statuses that belong to no command: nothing takes them to another connection."""
        kept = set(self._status_of.values())
        self._statuses = {number: sent for number, sent in self._statuses.items() if number in kept}

    def holds(self, tag: int) -> bool:
        """Returns True when the status of a command is not acknowledged, and its tag is not in use again."""
        return tag in self._status_of

    def outdate(self, tag: int) -> None:
        """Notes that a tag is in use again: the initiator has had the status of the command before."""
        self._status_of.pop(tag, None)

    def withdraw(self, tag: int, seen: int, *, burst: int, segment: int) -> Leftover | None:
        """Takes out what is to be sent on another connection for a command that is done, and forgets it.

        tag            which `holds` says is there
        seen           how many Data-In and R2Ts the initiator says that it has had; ignored when that cannot be
        burst, segment as for `split`
        returns        None when some of the data is not kept any more
        Source: RFC7143 7.2.2, 11.5.6
        """
        status = self._statuses.pop(self._status_of.pop(tag))
        task = self._tasks.get(tag, _Task())
        begin = seen if task.begin <= seen <= task.end else task.begin
        begin = task.end if task.first_data is None else max(begin, task.first_data)
        kept = _run(task.sent, range(begin, task.end))
        self._forget(tag)
        if kept is None:
            return None
        parts = _cut(kept, burst, segment)
        alone = _alone(status.header).replace(snack_tag=0)
        if task.first_data is not None:
            alone = alone.replace(exp_data_sn=begin + len(parts))
        return Leftover(parts, begin, alone, _sense(status))


def _cut(kept: list[Sent], burst: int, segment: int) -> list[DataInPart]:
    """Cuts Data-In again that went out in a row; burst and segment are as for `split`."""
    if not kept:
        return []
    first = kept[0].header
    assert isinstance(first, DataIn)
    whole = kept[0].data if len(kept) == 1 else b"".join(bytes(sent.data) for sent in kept)
    return [
        DataInPart(first.buffer_offset + offset, data, final) for offset, data, final in split(whole, burst, segment)
    ]


def _run(kept: Mapping[int, Sent], numbers: Iterable[int]) -> list[Sent] | None:
    run = []
    for number in numbers:
        if number not in kept:
            return None
        run.append(kept[number])
    return run


def _data_in(tag: int, number: int, part: DataInPart) -> DataIn:
    return DataIn(
        final=part.final,
        initiator_task_tag=tag,
        data_sn=number,
        buffer_offset=part.offset,
        data_segment_length=len(part.data),
    )


def _alone(header: Response) -> ScsiResponse:
    """Returns the status of a Data-In PDU as a SCSI Response."""
    if isinstance(header, ScsiResponse):
        return header
    assert isinstance(header, DataIn)
    return ScsiResponse(
        overflow=header.overflow,
        underflow=header.underflow,
        status=header.status,
        initiator_task_tag=header.initiator_task_tag,
        stat_sn=header.stat_sn,
        residual_count=header.residual_count,
    )


def _sense(status: Sent) -> Buffer:
    return status.data if isinstance(status.header, ScsiResponse) else b""
