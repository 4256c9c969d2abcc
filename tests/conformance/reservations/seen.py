"""What a case expects of a unit after a command on reservations; what must change nothing has `World.snapshot`."""

from typing import NamedTuple

from iscsi_target.scsi.nexus import Nexus
from tests.conformance.reservations.world import World


class Seen(NamedTuple):
    """The reservations of a unit and what its nexuses have not been told.

    registered   nexus -> key
    reserved     (type, holder), None without a reservation; no holder with the all registrants types
    generation   PRGENERATION
    told         the pending unit attentions of the nexuses that have any
    """

    registered: dict[Nexus, int]
    reserved: tuple[int, Nexus | None] | None
    generation: int
    told: dict[Nexus, list[int]]


def seen(world: World) -> Seen:
    """Looks without a command, so that nobody is told anything by it."""
    reservation = world.unit.device.reservations.reservation
    reserved = None if reservation is None else (int(reservation.type), reservation.holder)
    return Seen(world.registered, reserved, world.generation, world.pending_of_all())
