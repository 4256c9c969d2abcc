"""What the rows of the differences between targets are made of; `test_personalities` tests them.

A row is a story, which is told to the unit of a personality, and what that answers. The drawing of the nexuses is in
`world`: unless a story says otherwise, N1 holds with K1, N2 is registered with K2, and N3 is a stranger.
"""

from collections.abc import Callable
from typing import NamedTuple

from iscsi_target.scsi.layouts.cdb import (
    PersistentReserveIn,
)
from iscsi_target.scsi.layouts.reservation_pages import ReservationHeader
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import InAction
from tests.conformance.reservations.world import (
    K1,
    K2,
    K3,
    N1,
    N2,
    N3,
    A,
    B,
    C,
    G,
    Told,
    World,
    check,
)

COMMUNICATION_FAILURE, NOT_READY = check(2, 0x0800), check(2, 0x0000)
ALL = frozenset(PERSONALITIES) - {"strict", "openfiler"}
A_ID, B_ID, C_ID = map(pack_transport_id, (A, B, C))


Story = Callable[[World], object]


class Difference(NamedTuple):
    """What personalities answer in a case."""

    case: str
    who: frozenset[str]
    story: Story
    told: object


class Differences:
    """Collects rows; it decorates their stories: `@differs("PE-01", "tgt", told=...)`."""

    def __init__(self) -> None:
        self.rows: list[Difference] = []

    def __call__(self, case: str, *who: str, told: object) -> Callable[[Story], Story]:
        def add(story: Story) -> Story:
            self.rows.append(Difference(case, frozenset(who), story, told))
            return story

        return add


# What happened before


def holding(world: World, kind: int, *, registered: bool = True) -> World:
    """N1 holds with K1, N2 is registered with K2, N3 is a stranger."""
    assert world.register(N1, K1) == G
    if registered:
        assert world.register(N2, K2) == G
    assert world.reserve(N1, K1, kind) == G
    return world


def three(world: World) -> World:
    for nexus, key in ((N1, K1), (N2, K2), (N3, K3)):
        assert world.register(nexus, key) == G
    return world


def ask(world: World, action: InAction, allocation_length: int) -> tuple[Told | None, bytes]:
    """PERSISTENT RESERVE IN with whatever comes of it."""
    tag = world.start(N1, PersistentReserveIn(service_action=action, allocation_length=allocation_length))
    return world.ended[tag], world.data[tag]


def said_length(data: bytes) -> tuple[int, int]:
    """The ADDITIONAL LENGTH, and how many bytes came."""
    return ReservationHeader.unpack(data).additional_length, len(data)


def counted(world: World, command: Callable[[], Told]) -> int:
    """How far a command that is GOOD moves PRGENERATION."""
    before = world.generation
    assert command() == G
    return world.generation - before


def with_registered(world: World, told: Told) -> object:
    """What came of a command, and who is registered after it."""
    return told, world.registered
