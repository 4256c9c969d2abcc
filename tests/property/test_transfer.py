"""Data of one task under every order of events that an initiator may choose, and under those that it may not."""

from itertools import pairwise
from random import Random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.iscsi.errors import ProtocolError
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.recovering_transfer import MAX_TRIES, RecoveringTransfer
from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.transfer import DataOutTransfer, Ordering, Solicitation, TransferFailed, residual, split

ORDERINGS = st.builds(Ordering, st.integers(1, 700), st.integers(1, 5), st.booleans())
LENGTHS = st.integers(0, 4000)


class Owed(NamedTuple):
    """A Data-Out PDU that the initiator has to send, still without its DataSN."""

    offset: int
    data: bytes


class Sender:
    """An initiator with content; it sends each sequence in pieces, and chooses what comes next."""

    def __init__(self, content: bytes, ordering: Ordering, random: Random) -> None:
        self.content = content
        self.random = random
        self.ordering = ordering
        self.open: dict[int, list[Owed]] = {}
        self.sent: dict[int, int] = {}

    def owe(self, tag: int, offset: int, length: int) -> None:
        cuts = sorted(self.random.randrange(1, length) for _ in range(self.random.randrange(4))) if length > 1 else []
        bounds = sorted({offset, *(offset + cut for cut in cuts), offset + length})
        pieces = [Owed(start, self.content[start:end]) for start, end in pairwise(bounds)]
        if not self.ordering.pdus_in_order:
            self.random.shuffle(pieces)
        self.open[tag] = pieces
        self.sent[tag] = 0

    def next(self) -> tuple[DataOut, bytes]:
        tag = self.random.choice(list(self.open))
        piece = self.open[tag].pop(0)
        header = DataOut(
            final=not self.open[tag],
            target_transfer_tag=tag,
            data_sn=self.sent[tag],
            buffer_offset=piece.offset,
        )
        self.sent[tag] += 1
        if header.final:
            del self.open[tag]
        return header, piece.data


class Start(NamedTuple):
    """How a command begins: how much there is, wanted, sent with it, and announced to follow unasked."""

    expected: int
    wanted: int
    immediate: int
    unsolicited: int


@st.composite
def starts(draw: st.DrawFn) -> Start:
    expected = draw(LENGTHS)
    immediate = draw(st.integers(0, expected))
    unsolicited = draw(st.integers(0, expected - immediate))
    return Start(expected, draw(LENGTHS), immediate, unsolicited)


def begin(start: Start, ordering: Ordering, content: bytes) -> DataOutTransfer:
    transfer = DataOutTransfer(ordering, start.expected, immediate=start.immediate, unsolicited=start.unsolicited)
    transfer.want(start.wanted, content[: start.immediate])
    return transfer


@given(starts(), ORDERINGS, st.randoms(use_true_random=False))
def test_any_order_that_is_allowed_collects_exactly_the_data(start, ordering, random):
    """Law: whatever order the initiator sends in, the data is the content as far as it is wanted; R2Ts never exceed
    MaxOutstandingR2T and MaxBurstLength, and ask for each byte that was not sent unasked once, in order."""
    content = random.randbytes(start.expected)
    transfer = begin(start, ordering, content)
    sender = Sender(content, ordering, random)
    if start.unsolicited:
        sender.owe(NO_TAG, start.immediate, start.unsolicited)
    asked: list[Solicitation] = []
    while True:
        while (solicitation := transfer.solicit(len(asked))) is not None:
            asked.append(solicitation)
            sender.owe(solicitation.target_transfer_tag, solicitation.offset, solicitation.length)
            assert NO_TAG not in sender.open
        assert len(sender.open) <= ordering.max_outstanding
        assert len(transfer.data) <= transfer.wanted
        if not sender.open:
            break
        assert not transfer.whole
        header, data = sender.next()
        room = transfer.room(header.replace(data_segment_length=len(data))) if random.random() < 0.5 else None
        if room is not None:
            room[:] = data
        transfer.receive(header, data if room is None else room)
    wanted = min(start.wanted, start.expected)
    assert transfer.whole
    assert transfer.quiet
    assert transfer.data == content[:wanted]
    assert [one.r2t_sn for one in asked] == list(range(len(asked)))
    assert all(0 < one.length <= ordering.max_burst for one in asked)
    reached = start.immediate + start.unsolicited
    for one in asked:
        assert one.offset == reached
        reached += one.length
    assert reached == max(wanted, start.immediate + start.unsolicited)


@given(starts(), ORDERINGS, st.randoms(use_true_random=False))
def test_what_is_lost_is_asked_for_again_until_all_is_there(start, ordering, random):
    """Law: whichever PDUs fall away or are damaged, but for the end of a sequence, the data is the content at last."""
    content = random.randbytes(start.expected)
    transfer = RecoveringTransfer(ordering, start.expected, immediate=start.immediate, unsolicited=start.unsolicited)
    transfer.want(start.wanted, content[: start.immediate])
    sender = Sender(content, ordering, random)
    if start.unsolicited:
        sender.owe(NO_TAG, start.immediate, start.unsolicited)
    asked, left = 0, random.randrange(MAX_TRIES + 1)
    while True:
        while (solicitation := transfer.solicit(asked)) is not None:
            assert 0 < solicitation.length <= ordering.max_burst
            sender.owe(solicitation.target_transfer_tag, solicitation.offset, solicitation.length)
            asked += 1
        assert len(sender.open) <= ordering.max_outstanding
        if not sender.open:
            break
        assert not transfer.whole
        header, data = sender.next()
        if not left or random.random() < 0.5:
            transfer.receive(header, data)
        else:
            left -= 1
            if header.final or random.random() < 0.5:
                assert not transfer.lose(header)
    assert transfer.whole
    assert transfer.data == content[: min(start.wanted, start.expected)]


@given(
    starts(),
    ORDERINGS,
    st.lists(
        st.tuples(
            st.sampled_from([NO_TAG, 0, 1, 2, 3]),
            st.integers(0, 4),
            st.integers(0, 4100) | st.just(2**32 - 1),
            st.integers(0, 800),
            st.booleans(),
        ),
        max_size=20,
    ),
)
def test_wrong_data_ends_in_refusals_and_never_in_more_memory(start, ordering, pdus):
    """Law: any Data-Out is taken, refused as a protocol error, or ends the transfer once; the buffer stays bounded."""
    transfer = begin(start, ordering, bytes(start.expected))
    tags = iter(range(1000))
    failures = 0
    for tag, data_sn, offset, length, final in pdus:
        while transfer.solicit(next(tags)) is not None:
            pass
        header = DataOut(target_transfer_tag=tag, data_sn=data_sn, buffer_offset=offset, final=final)
        try:
            transfer.receive(header, bytes(length))
        except ProtocolError:
            pass
        except TransferFailed:
            failures += 1
        assert len(transfer.data) <= min(start.wanted, start.expected)
        assert not failures or transfer.wanted == 0
    assert failures <= 1


@given(st.binary(max_size=3000), st.integers(1, 900), st.integers(1, 900))
def test_split_loses_nothing_and_keeps_the_limits(data, burst, segment):
    """Law: the parts joined are the data; none exceeds a segment, no sequence a burst; a sequence ends where a burst
    does and at the end, nowhere else."""
    parts = list(split(data, burst, segment))
    assert b"".join(part.data for part in parts) == data
    sequence = reached = 0
    for part in parts:
        assert part.offset == reached
        assert len(part.data) <= segment
        sequence += len(part.data)
        reached += len(part.data)
        assert part.final == (sequence == burst or reached == len(data))
        if part.final:
            sequence = 0
    assert parts[-1].final
    assert all(part.data for part in parts) or not data


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_residual_is_the_difference_and_one_direction_of_it(expected, actual):
    """Law: at most one of overflow and underflow, neither when the lengths agree, and the count is the difference."""
    difference = residual(expected, actual)
    assert not (difference.overflow and difference.underflow)
    assert (difference.overflow or difference.underflow) == (expected != actual)
    sign = 1 if difference.overflow else -1
    assert expected + sign * difference.residual_count == actual
