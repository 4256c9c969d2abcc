"""Persistent reservations, and the older SPC-2 reservation, as frozen states: who holds what, and what that excludes.

A registration is a key of one I_T nexus, by names: initiator port (name and ISID) and target port (name and portal
group tag). It outlives sessions, resets and logouts. At most one persistent reservation exists; one nexus holds it, or
with the all registrants types every registered nexus does, and then `holder` is None. A unit has persistent
reservations or an SPC-2 reservation, not both unless a personality lets it. How one state leads to the next is in
`transitions`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.rules import Rule, refusal

LU_SCOPE = 0  # the only scope; SPC4r37 6.15.3.3


class Cause(NamedTuple):
    """The command that made something so.

    command   its name
    nexus     whose it was; OPERATOR for a command of the operator
    time_s    when it was received, in seconds since the epoch
    """

    command: str
    nexus: Nexus
    time_s: float

    def __str__(self) -> str:
        whose = "the operator" if self.nexus == OPERATOR else str(self.nexus.initiator_port)
        at = datetime.fromtimestamp(self.time_s, UTC).isoformat(sep=" ", timespec="milliseconds")
        return f"{self.command} from {whose} at {at}"


class Reservation(NamedTuple):
    """The persistent reservation of a unit; its scope is the unit.

    holder    None with the all registrants types
    made_by   what established it, moved it or took it over
    Source: SPC4r37 5.13.10
    """

    type: ReservationType
    holder: Nexus | None
    made_by: Cause


class Reservations(NamedTuple):
    """The registrations and the persistent reservation of one unit.

    registrations   nexus -> key, 1..2**64-1, in the order of registration
    generation      PRGENERATION
    aptpl           True when all of this survives a power loss
    lost            True when what was stored cannot be read; nothing else is known then
    Source: SPC4r37 5.13
    """

    registrations: Mapping[Nexus, int] = MappingProxyType({})
    reservation: Reservation | None = None
    generation: int = 0
    aptpl: bool = False
    lost: bool = False

    def holds(self, nexus: Nexus) -> bool:
        """Returns True for a persistent reservation holder.

        Source: SPC4r37 5.13.10
        """
        if self.reservation is None:
            return False
        if self.reservation.holder is None:
            return nexus in self.registrations
        return nexus == self.reservation.holder

    @property
    def reservation_key(self) -> int:
        """The key of the holder; zero without a reservation and with the all registrants types.

        Source: SPC4r37 5.13.10, 6.15.3
        """
        if self.reservation is None or self.reservation.holder is None:
            return 0
        return self.registrations[self.reservation.holder]

    def conflict(self, nexus: Nexus, access: Access) -> Rule | None:
        """Returns the rule that excludes a command of nexus with these columns, or None when it is processed.

        Source: SPC4r37 5.13.1 tables 65 and 66
        """
        if self.reservation is None or self.holds(nexus):
            return None
        registered = nexus in self.registrations
        if access & _columns(self.reservation.type, registered=registered):
            return None
        if Access.REGISTRANT in access:
            return Rule.NOT_REGISTERED
        if self.reservation.type.registrants_only or self.reservation.type.all_registrants:
            return Rule.RESERVED_BY_ANOTHER if registered else Rule.REGISTRANTS_ONLY
        return Rule.HOLDER_ONLY

    def permits(self, nexus: Nexus, access: Access) -> bool:
        """Returns True when a command of nexus with these columns is processed.

        Source: SPC4r37 5.13.1 tables 65 and 66
        """
        return self.conflict(nexus, access) is None

    def exempts(self, nexus: Nexus) -> bool:
        """Returns True for a nexus whose RESERVE and RELEASE are GOOD and do nothing.

        Source: SPC4r37 5.13.3 (CRH)
        """
        if self.reservation is None:
            return False
        return self.holds(nexus) or (self.reservation.type.registrants_only and nexus in self.registrations)

    @property
    def creator(self) -> Nexus | None:
        """The nexus that holds the reservation or, for all registrants, that made it."""
        return None if self.reservation is None else self.reservation.holder or self.reservation.made_by.nexus

    @property
    def stored(self) -> "Reservations | None":
        """What has to survive a power loss, None when nothing has; PRGENERATION does not.

        Source: SPC4r37 5.13.5.1, 6.15.2
        """
        if self.lost:
            return Reservations(lost=True)
        return self._replace(generation=0) if self.aptpl else None


def _columns(kind: ReservationType, *, registered: bool) -> Access:
    """Returns the columns of which each lets in a nexus that does not hold a reservation of this type.

    Source: SPC4r37 5.13.1 tables 65 and 66
    """
    if not (kind.registrants_only or kind.all_registrants):
        if kind.exclusive_access:
            return Access.EXCLUSIVE_ACCESS | Access.REGISTRANT if registered else Access.EXCLUSIVE_ACCESS
        more = Access.REGISTRANT | Access.REGISTERED_WRITE_EXCLUSIVE if registered else Access.HOLDER
        return Access.WRITE_EXCLUSIVE | more
    if registered:
        return Access.REGISTERED | Access.REGISTRANT
    return Access.UNREGISTERED_EXCLUSIVE_ACCESS if kind.exclusive_access else Access.UNREGISTERED_WRITE_EXCLUSIVE


# The SPC-2 reservation


class Spc2Reservation(NamedTuple):
    """The SPC-2 reservation of one logical unit.

    holder    the nexus that reserved it, or None
    made_by   the command that did
    Source: SPC2r20 5.5.1
    """

    holder: Nexus | None = None
    made_by: Cause | None = None

    def reserve(self, cause: Cause) -> "Spc2Reservation":
        """Returns the state in which the nexus of a RESERVE command holds the reservation.

        raises   ReservationConflict when another nexus holds it
        Source: SPC2r20 7.21
        """
        if self.holder not in (None, cause.nexus):
            raise refusal(Rule.SPC2_RESERVED, Rule.SPC2_RESERVED.answer)
        return self if self.holder else Spc2Reservation(cause.nexus, cause)

    def release(self, nexus: Nexus) -> "Spc2Reservation":
        """Returns the state in which nexus holds nothing; what another nexus holds stays and is no error.

        Source: SPC2r20 7.17
        """
        return Spc2Reservation() if self.holder == nexus else self

    def conflict(self, nexus: Nexus, access: Access) -> Rule | None:
        """Returns the rule that excludes a command of nexus with these columns, or None when it is processed.

        Source: SPC2r20 5.5.1
        """
        return None if self.permits(nexus, access) else Rule.SPC2_RESERVED

    def permits(self, nexus: Nexus, access: Access) -> bool:
        """Returns True when a command of nexus with these columns is processed.

        Source: SPC2r20 5.5.1
        """
        return self.holder in (None, nexus) or Access.SPC2 in access
