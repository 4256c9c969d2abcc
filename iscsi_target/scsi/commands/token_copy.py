"""Writes what a token represents, one piece after another, and answers other copy managers that want to do so.

Every piece is fetched from the unit that made the token, which sees to it that the token is still valid and that no
write comes in between, and is then written like any other data: in turn with what else wants these blocks. It is of
whole blocks of the destination, whatever the extents and the blocks are that it comes from, so that none of them is
half new when the copy fails. A write to
what the token represents, however it comes, cancels the token, so that a copy that has not come so far yet fails
instead of mixing old data with new. Nothing is kept of a piece that is done, and no blocks are held up but those of a
piece, so a copy may be long and may be aborted between any two pieces; one that goes to the medium is waited for.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from iscsi_target.scsi.layouts.token_cdb import FetchRod
from iscsi_target.scsi.operations import Buffer, Outcome, Read, Unmap, Write, WriteSame
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.copy_managers import Source
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import Extent, InvalidTokenOperation, TokenError
from iscsi_target.scsi.state.task import Call, Done, Fetch, Work
from iscsi_target.scsi.status import CheckCondition, LbaOutOfRange, MediumNotPresent, Sense, SenseKey, StatusError

PIECE_BYTES = 2 << 20  # of data; more than a medium does on the event loop, and bounds the memory of a copy
ZEROS_BYTES = 64 << 20  # of one piece of zeros, which bounds how long others wait for these blocks
ZERO_PATTERN = bytes(512)  # divides every block
UNDERRUN, THIRD_PARTY_FAILURE = 0x0D04, 0x0D01  # COPY TARGET DEVICE DATA UNDERRUN, THIRD PARTY DEVICE FAILURE

Step = Done | Work | Fetch


class Piece(NamedTuple):
    """What is done at once.

    sources        where it is on the medium of the unit that made the token, in order; none for zeros
    length_bytes   of the destination; what the sources do not fill is zeros
    """

    sources: tuple[Extent, ...]
    destination: int
    length_bytes: int


def pieces(
    sources: Sequence[Extent], destinations: Sequence[Extent], *, offset_bytes: int, padding_bytes: int
) -> Iterator[Piece]:
    """Yields what is to be done for a copy, in order.

    sources         what a token represents
    destinations    where it is to go; all of it, as far as the sources and the padding reach
    offset_bytes    into what the token represents
    padding_bytes   zeros that follow the last byte of it, up to the end of a block
    """
    left = _without(sources, offset_bytes)
    for place, length in destinations:
        for start in range(0, length, PIECE_BYTES):
            taken = _first(left, min(PIECE_BYTES, length - start))
            size = sum(extent.length_bytes for extent in taken)
            left = _without(left, size)
            if taken:
                yield Piece(taken, place + start, size if left else size + padding_bytes)


def _first(extents: Sequence[Extent], length_bytes: int) -> tuple[Extent, ...]:
    """Returns the first bytes of extents."""
    found = []
    for offset, length in extents:
        if length_bytes:
            found.append(Extent(offset, min(length, length_bytes)))
            length_bytes -= found[-1].length_bytes
    return tuple(found)


def _without(extents: Sequence[Extent], skipped: int) -> Sequence[Extent]:
    """Returns what is left of extents after some bytes."""
    for number, (offset, length) in enumerate(extents):
        if skipped < length:
            return [Extent(offset + skipped, length - skipped), *extents[number + 1 :]]
        skipped -= length
    return []


def zeros(destinations: Sequence[Extent]) -> Iterator[Piece]:
    """Yields what is to be done to fill extents with zeros."""
    for place, length in destinations:
        for start in range(0, length, ZEROS_BYTES):
            yield Piece((), place + start, min(ZEROS_BYTES, length - start))


class TokenCopy:
    """One copy, of which `step` returns what is to be done next until it is over.

    device         that is written to
    record         that is kept of it
    parts          what is to be done
    wanted_bytes   that the command asks for; the parts may be less, of a token that has less
    source         the token, or None when all pieces are zeros
    delete         True when the token is to be given up at the end
    """

    def __init__(
        self,
        device: Device,
        record: CopyRecord,
        parts: Iterator[Piece],
        wanted_bytes: int,
        source: Source | None = None,
    ) -> None:
        self.delete = False
        self._wanted_bytes = wanted_bytes
        self._device = device
        self._record = record
        self._parts = parts
        self._source = source

    def step(self) -> Step:
        """Returns what is to be done next; raises StatusError when it has failed."""
        if not self._device.loaded:
            raise self._failed(MediumNotPresent())
        piece = next(self._parts, None)
        if piece is None:
            return self._give_up() if self.delete else self._over()
        return self._gather(piece, ()) if piece.sources else self._write_zeros(piece)

    def _check(self, piece: Piece) -> None:
        """Refuses to write a piece for which the medium is not there any more, or too small by now."""
        if not self._device.loaded:
            raise self._failed(MediumNotPresent())
        if piece.destination + piece.length_bytes > self._device.geometry.length_bytes:
            raise self._failed(LbaOutOfRange(self._device.geometry.length_blocks))

    def _gather(self, piece: Piece, parts: tuple[Buffer, ...]) -> Step:
        """Fetches the next source of a piece, or writes it when all of them are there."""
        if len(parts) < len(piece.sources):
            offset, length = piece.sources[len(parts)]
            cdb = FetchRod(offset_bytes=offset, length_bytes=length)
            return self._fetch(cdb, lambda data: self._gather(piece, (*parts, data)))
        self._check(piece)
        data = parts[0] if len(parts[0]) == piece.length_bytes else b"".join(parts).ljust(piece.length_bytes, b"\0")
        write = Write(piece.destination, data, self._flushes())
        return Work(write, partial(self._wrote, piece), None, self._record.end)

    def _fetch(self, cdb: FetchRod, then: Callable[[Buffer], Step]) -> Fetch:
        assert self._source is not None

        def fetched(data: Buffer | None) -> Step:
            if data is None:
                raise self._failed(self._why())
            return then(data)

        return Fetch(self._source.unit, cdb, self._source.token.raw, fetched, self._record.end)

    def _write_zeros(self, piece: Piece) -> Work:
        self._check(piece)
        _, place, length = piece
        wrote, flush = partial(self._wrote, piece), self._flushes()
        if self._device.features.thin:
            return Work(Unmap(((place, length),), flush), wrote, None, self._record.end)
        return Work(WriteSame(place, length, ZERO_PATTERN, flush), wrote, None, self._record.end)

    def _flushes(self) -> bool:
        return not self._device.write_cache

    def _wrote(self, piece: Piece, _: Outcome) -> Step:
        self._record.copied_bytes += piece.length_bytes
        self._record.steps += 1
        return self.step()

    def _give_up(self) -> Fetch:
        """Lets the unit that made the token forget it."""
        self.delete = False
        return self._fetch(FetchRod(delete=True), lambda _: self._over())

    def _over(self) -> Done:
        """Ends the copy.

        raises   CheckCondition when the token had less than was wanted
        Source: SBC3r36 4.28.2
        """
        copied = self._record.copied_bytes
        if copied >= self._wanted_bytes:
            self._record.state = CopyState.DONE
            return Done()
        key = SenseKey.COPY_ABORTED if copied else SenseKey.ILLEGAL_REQUEST
        blocks = copied // self._device.geometry.block_length_bytes
        error = CheckCondition(Sense(key, UNDERRUN, information=blocks))
        self._record.end(error)
        self._record.state = CopyState.PARTIAL
        raise error

    def _why(self) -> StatusError:
        """Returns why the data of the token did not come."""
        assert self._source is not None
        token, unit = self._source.token, self._source.unit
        managers = self._device.copy_managers
        made_it = self._device if unit is None else managers.devices.get(unit)
        why = TokenError.TOKEN_CANCELLED if made_it is None else made_it.tokens.ended.get(token.raw)
        if why is not None:
            return InvalidTokenOperation(why)
        return CheckCondition(Sense(SenseKey.COPY_ABORTED, THIRD_PARTY_FAILURE))

    def _failed(self, error: StatusError) -> StatusError:
        self._record.end(error)
        return error


def fetch_rod(device: Device, cdb: FetchRod, call: Call) -> Done | Work:
    """Answers another copy manager, or the one of the unit itself, that is sent a token of the unit.

    raises   InvalidTokenOperation when the token is not valid any more
    Source: SPC4r37 5.17.6.6
    """
    raw = bytes(call.data_out)
    if raw not in device.tokens.live:
        raise InvalidTokenOperation(device.tokens.ended.get(raw, TokenError.TOKEN_UNKNOWN))
    if cdb.delete:
        device.tokens = device.tokens.without(raw)
        return Done()
    device.tokens = device.tokens.used(raw, call.received_s)
    return Work(Read(cdb.offset_bytes, cdb.length_bytes), brought)


def brought(outcome: Outcome) -> Done:
    """Answers a copy manager with what the medium has read."""
    assert isinstance(outcome, (bytes, bytearray))
    return Done(outcome)
