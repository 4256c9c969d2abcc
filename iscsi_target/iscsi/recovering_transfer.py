"""Data-Out of one task where what is lost is asked for again: the transfer of ErrorRecoveryLevel 1 and 2.

A sequence in which PDUs are missing goes on to its end: what has come is kept, and a recovery R2T asks for the rest.
How often that is tried is limited; then the task fails, as it does at once where nothing is recovered.
"""

from bisect import bisect_left

from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.transfer import (
    MAX_FRAGMENTS,
    DataLost,
    DataOutSequence,
    DataOutTransfer,
    IncorrectAmountOfData,
    Ordering,
    Solicitation,
)

MAX_TRIES = 8  # sequences of one task that may end with PDUs missing
MAX_GAPS = 4  # of one sequence that are asked for one by one; one with more of them is asked for as a whole

Gap = tuple[int, int]  # the first byte, and the one after the last


class RecoveringSequence(DataOutSequence):
    """A run of Data-Out PDUs some of which may be missing, or come twice.

    r2t_sn    of the R2T that asked for it; -1 for unsolicited data
    """

    def __init__(self, offset: int, length: int, *, r2t_sn: int) -> None:
        super().__init__(offset, length)
        self.r2t_sn = r2t_sn
        self.answered = False
        self._damaged = False
        self._reached = offset
        self._kept: list[Gap] = []  # what has come, ascending; neither overlaps nor touches the next

    def accept(self, header: DataOut, length: int, *, in_order: bool) -> None:
        """Takes one PDU, whether others before it are missing or not; raises IncorrectAmountOfData as its base does.

        Source: RFC7143 7.9
        """
        start, end = header.buffer_offset, header.buffer_offset + length
        if start < self.offset or end > self.end:
            raise IncorrectAmountOfData(
                f"Data-Out for bytes {start} to {end} came, {self.offset} to {self.end} were allowed"
            )
        self._damaged |= header.data_sn != self._data_sn or (in_order and start != self._reached)
        self._data_sn = header.data_sn + 1
        self._reached = end
        self.answered = True
        if length:
            self._keep(start, end)
        if header.final and not self._damaged and self.gaps:
            raise IncorrectAmountOfData(f"a sequence of {self.end - self.offset} bytes ended too early")

    def lose(self, header: DataOut) -> None:
        """Takes a PDU whose data is damaged."""
        self._damaged = self.answered = True
        self._data_sn = header.data_sn + 1

    def _keep(self, start: int, end: int) -> None:
        first = bisect_left(self._kept, start, key=lambda run: run[1])
        last = first
        while last < len(self._kept) and self._kept[last][0] <= end:
            last += 1
        merged = self._kept[first:last]
        self._damaged |= any(run[0] < end and start < run[1] for run in merged)
        if merged:
            start, end = min(start, merged[0][0]), max(end, merged[-1][1])
        self._kept[first:last] = [(start, end)]
        if len(self._kept) > MAX_FRAGMENTS:
            raise DataLost(f"a sequence came in over {MAX_FRAGMENTS} fragments")

    @property
    def gaps(self) -> list[Gap]:
        """What has not come, or all of it when there would be too many pieces."""
        begins = [self.offset, *(end for _, end in self._kept)]
        ends = [*(start for start, _ in self._kept), self.end]
        gaps = [(start, end) for start, end in zip(begins, ends, strict=True) if start < end]
        return gaps if len(gaps) <= MAX_GAPS else [(self.offset, self.end)]


class RecoveringTransfer(DataOutTransfer):
    """Collects the Data-Out of one task, and asks again for what is lost; its arguments are those of its base.

    Source: RFC7143 7.2, 11.8
    """

    __slots__ = ("_again", "_answered", "_tries")

    def __init__(self, ordering: Ordering, expected: int, *, immediate: int, unsolicited: int) -> None:
        super().__init__(ordering, expected, immediate=immediate, unsolicited=0)
        if unsolicited:
            self._unsolicited = [RecoveringSequence(immediate, unsolicited, r2t_sn=-1)]
        self._again: list[Gap] = []  # what is to be asked for again, ascending
        self._answered = 0  # how many R2Ts the initiator has had for certain
        self._tries = 0

    def _open(self, offset: int, length: int) -> DataOutSequence:
        return RecoveringSequence(offset, length, r2t_sn=self._r2t_sn)

    def lose(self, header: DataOut) -> bool:
        """Takes a PDU whose data is lost; returns True when that was once too often, and the transfer gives up."""
        if self._failed:
            return super().lose(header)
        sequence = self._sequence(header)
        assert isinstance(sequence, RecoveringSequence)
        sequence.lose(header)
        try:
            if header.final:
                self._end(header.target_transfer_tag, sequence)
        except DataLost:
            return True
        return False

    def _end(self, target_transfer_tag: int, sequence: DataOutSequence) -> None:
        super()._end(target_transfer_tag, sequence)
        gaps = self._missing(sequence)
        if not gaps or self._failed:
            return
        self._tries += 1
        if self._tries > MAX_TRIES:
            self.fail()
            raise DataLost(f"{MAX_TRIES} sequences of one task had PDUs missing")
        self._ask_again(gaps)

    def _missing(self, sequence: DataOutSequence) -> list[Gap]:
        assert isinstance(sequence, RecoveringSequence)
        if sequence.answered:
            self._answered = max(self._answered, sequence.r2t_sn + 1)
        return sequence.gaps

    def _ask_again(self, gaps: list[Gap]) -> None:
        self._again = sorted([*self._again, *gaps])

    def fail(self) -> None:
        """Gives up, as its base does."""
        super().fail()
        self._again = []

    def solicit(self, tag: int) -> Solicitation | None:
        """Returns what the next R2T asks for, which is what is missing before anything new.

        Source: RFC7143 11.8
        """
        if not self._has_gaps:
            return super().solicit(tag)
        if self._unsolicited or len(self._sequences) >= self._ordering.max_outstanding:
            return None
        start, end = self._again.pop(0)
        end = min(end, self._wanted)
        length = min(self._ordering.max_burst, end - start)
        if start + length < end:
            self._again.insert(0, (start + length, end))
        return self._ask(tag, start, length=length)

    @property
    def _has_gaps(self) -> bool:
        """True when something is to be asked for again that is wanted."""
        return bool(self._again) and self._again[0][0] < self._wanted

    @property
    def whole(self) -> bool:
        """True when everything that is wanted has come."""
        return not self._has_gaps and super().whole

    def forgo(self) -> None:
        """Takes it that what is owed does not come any more; it is to be asked for on another connection."""
        sequences = [*self._unsolicited, *self._sequences.values()]
        gaps = [gap for sequence in sequences for gap in self._missing(sequence)]
        if self._unsolicited:
            self._asked = self._unsolicited[0].end
        self._unsolicited.clear()
        self._sequences.clear()
        if not self._failed:
            self._ask_again(gaps)

    def resume(self, seen: int) -> None:
        """Goes on on another connection; R2Ts are numbered from what the initiator has had, if that can be."""
        self._r2t_sn = seen if self._answered <= seen <= self._r2t_sn else self._answered
