"""One SCSI command of an initiator that recovers what is lost of it: Data-In and R2Ts by their numbers.

Data may come in any order and again. The command is completed when its status is there and nothing of its data is
missing; what is missing is told to whoever can ask for it. R2Ts may ask again for what has been sent.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from iscsi_target.initiator.command import COMPLETED_AT_TARGET, Command, DataPart, OpenCommand
from iscsi_target.initiator.errors import violation
from iscsi_target.initiator.events import CommandCompleted
from iscsi_target.initiator.numbering import MAX_AHEAD, Arrivals, Run
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.open_task import STATUS_GOOD
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.transfer import NO_RESIDUAL, Residual
from iscsi_target.wire.serial import advance, before

MAX_RESENDS: Final = 16  # of all data of a command: a target that asks more often does not recover
MAX_RUNS: Final = 16  # that are asked for at a time


class _Ending(NamedTuple):
    """What a status said."""

    response: int
    status: int
    sense: bytes
    residual: Residual
    back: Residual


class Acknowledgement(NamedTuple):
    """What a SNACK of type DataACK says: all Data-In before a DataSN is there.

    Source: RFC7143 11.16
    """

    lun: bytes
    target_transfer_tag: int
    data_sn: int


class RecoverableCommand(OpenCommand):
    """A command that has no response yet, or lacks data; arguments as for `OpenCommand`.

    stat_sn    of the status that waits for data; None while there is none
    Source: RFC7143 7.2.1, 7.8, 11.16
    """

    def __init__(self, command: Command, tag: int, parameters: Parameters) -> None:
        super().__init__(command, tag, parameters)
        self.stat_sn: int | None = None
        self._arrivals = Arrivals()
        self._news: list[Run] = []
        self._ending: _Ending | None = None
        self._solicited_bytes = 0
        self._back = parameters.max_outstanding_r2t  # how many of the last R2Ts to ask for again
        self._to_acknowledge: DataIn | None = None
        self._beyond: dict[int, int] = {}  # bytes of Data-In behind some that is missing, by DataSN
        self._moved_at: int | None = None  # the first number on the connection that it has been moved to

    @property
    def answered(self) -> bool:
        """Says whether the status is there, so that the command is over at the target."""
        return self._ending is not None

    def announce(self, end: int) -> None:
        """Takes note that all Data-In and R2Ts before a number exist."""
        run = self._arrivals.announce(end)
        if run is not None:
            self._news.append(run)

    def take(self, header: DataIn, data: Buffer) -> CommandCompleted | None:
        """Takes a Data-In PDU, perhaps not for the first time; returns what the command came to when it is completed.

        raises    ProtocolError when the data does not belong there
        Source: RFC7143 11.7
        """
        start = header.buffer_offset
        if start + len(data) > self.command.read_length:
            raise violation(f"Data-In of {len(data)} bytes at {start} of {self.command.read_length}")
        if self._arrive(header.data_sn):
            self._in += bytes(max(0, start - len(self._in)))
            self._in[start : start + len(data)] = data
            self._received += len(data)
            self._beyond[header.data_sn] = len(data)
            if self._arrivals.first == self._arrivals.end:
                self._beyond.clear()
        if header.acknowledge:
            self._to_acknowledge = header
        if header.status_present:
            residual = Residual(header.overflow, header.underflow, header.residual_count)
            self._ending = _Ending(COMPLETED_AT_TARGET, header.status, b"", residual, NO_RESIDUAL)
        return self._completed()

    def _arrive(self, number: int) -> bool:
        self.announce(number)
        self._arrivals.announce(advance(number))
        return self._arrivals.take(number)

    def finish(self, header: ScsiResponse, data: bytes) -> CommandCompleted | None:
        """Takes the SCSI Response; returns what the command came to, or None while data is missing.

        Source: RFC7143 11.4
        """
        self.announce(header.exp_data_sn)
        self._ending = _Ending(header.response, header.status, *self._described(header, data))
        return self._completed()

    def _completed(self) -> CommandCompleted | None:
        if self._ending is None or self._lacks(self._ending):
            return None
        return self._complete(*self._ending)

    def _lacks(self, ending: _Ending) -> bool:
        """Says whether Data-In is missing; of R2Ts nobody needs those of a command that is over."""
        if not self.command.read_length or ending.response != COMPLETED_AT_TARGET:
            return False
        if len(self._out):
            return ending.status == STATUS_GOOD and self._received < self._due(*ending[3:])
        return self._arrivals.first != self._arrivals.end

    def solicited(self, asked: ReadyToTransfer) -> Iterator[DataPart]:
        """Yields the Data-Out that an R2T asks for, perhaps not for the first time.

        raises    ProtocolError when it asks for what there is not, for too much or too often
        Source: RFC7143 7.2.1, 11.7, 11.8
        """
        if self._arrive(asked.r2t_sn):
            self._back = self._parameters.max_outstanding_r2t
        parts = self._answer(asked)
        length = asked.desired_data_transfer_length
        self._solicited_bytes += length
        if self._solicited_bytes > MAX_RESENDS * len(self._out):
            raise violation(f"R2Ts have asked for all {len(self._out)} bytes {MAX_RESENDS} times")
        return parts

    # Recovery

    def take_news(self) -> list[Run]:
        """Returns the runs that have been found missing, and forgets that."""
        news, self._news = self._news, []
        return news

    def overdue(self) -> list[Run]:
        """Returns what to ask for after nothing has come for long: what is missing, or R2Ts.

        One may be lost, or the data for one that has come: that of the last ones first, which may be outstanding.
        """
        if missing := self._arrivals.missing:
            return missing[:MAX_RUNS]
        if self.answered or not len(self._out):
            return []
        begin = max(self._moved_at or 0, self._arrivals.first - self._back)
        self._back = min(2 * self._back, MAX_AHEAD)
        return [Run(begin, 0)]

    @property
    def may_lack_unsolicited(self) -> bool:
        """Says whether unsolicited Data-Out may be lost: some was sent, and no R2T has come behind it."""
        had_none = not self._arrivals.first and self._moved_at is None
        return self._unsolicited > self._immediate and had_none and not self.answered

    @property
    def seen(self) -> int:
        """ExpDataSN: the number of the first Data-In or R2T that has not come."""
        return self._arrivals.first

    def move(self, parameters: Parameters) -> None:
        """Takes over what holds on another connection."""
        self._parameters = parameters

    def resume(self) -> None:
        """Goes on on another connection: Data-In that has not come in its order is to come again.

        Of R2Ts none is: the target knows for which there is no data, and asks for that anew.

        Source: RFC7143 7.2.2
        """
        first = self._arrivals.first if self.command.read_length else self._arrivals.end
        self._received -= sum(length for number, length in self._beyond.items() if not before(number, first))
        self._beyond.clear()
        self._arrivals, self._moved_at = Arrivals(first), first
        self._news.clear()
        self._ending = self.stat_sn = self._to_acknowledge = None
        self._back = self._parameters.max_outstanding_r2t

    def needs(self, number: int) -> bool:
        """Says whether a number is known to be missing."""
        return self._arrivals.is_missing(number)

    def acknowledgement(self) -> Acknowledgement | None:
        """Returns the acknowledgement that the target has asked for, when everything up to there has come.

        Source: RFC7143 11.7, 11.16
        """
        asked = self._to_acknowledge
        if asked is None or not before(asked.data_sn, self._arrivals.first):
            return None
        self._to_acknowledge = None
        return Acknowledgement(asked.lun, asked.target_transfer_tag, self._arrivals.first)
