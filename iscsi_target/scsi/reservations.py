"""The SPC-2 reservation of a logical unit as a pure state, and the columns in which commands say what they are granted.

Persistent reservations have their place beside it: a second frozen state whose `permits` reads the other columns of
`Access`. At most one of the two kinds exists at a time, so each is checked by itself.
"""

from dataclasses import dataclass
from enum import Flag

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.status import ReservationConflict


class Access(Flag):
    """Where a command is processed although another nexus holds a reservation; every flag grants, absence denies.

    The first flag is for SPC-2 reservations, the others are the five columns of the standard's table for persistent
    ones: the first two for any nexus, the third for a registered nexus under the registrants only and all registrants
    types, the last two for an unregistered nexus under those.

    ALWAYS, AS_READ and AS_WRITE are the three classes of commands that the tables know; none of them says anything of
    SPC-2 reservations, so a row reads `Access.SPC2 | Access.ALWAYS` or `Access.AS_WRITE`.
    Source: SPC4r37 5.13.1 table 65, SBC3r36 4.17
    """

    SPC2 = 1
    WRITE_EXCLUSIVE = 2
    EXCLUSIVE_ACCESS = 4
    REGISTERED = 8
    UNREGISTERED_WRITE_EXCLUSIVE = 16
    UNREGISTERED_EXCLUSIVE_ACCESS = 32
    AS_WRITE = REGISTERED
    AS_READ = WRITE_EXCLUSIVE | REGISTERED | UNREGISTERED_WRITE_EXCLUSIVE
    ALWAYS = AS_READ | EXCLUSIVE_ACCESS | UNREGISTERED_EXCLUSIVE_ACCESS


@dataclass(frozen=True, slots=True)
class Spc2Reservation:
    """The SPC-2 reservation of one logical unit.

    holder   the nexus that reserved it, or None
    Source: SPC2r20 5.5.1
    """

    holder: Nexus | None = None

    def reserve(self, nexus: Nexus) -> "Spc2Reservation":
        """Returns the state in which nexus holds the reservation.

        raises   ReservationConflict when another nexus holds it
        Source: SPC2r20 7.21
        """
        if self.holder not in (None, nexus):
            raise ReservationConflict
        return Spc2Reservation(nexus)

    def release(self, nexus: Nexus) -> "Spc2Reservation":
        """Returns the state in which nexus holds nothing; what another nexus holds stays and is no error.

        Source: SPC2r20 7.17
        """
        return Spc2Reservation() if self.holder == nexus else self

    def permits(self, nexus: Nexus, access: Access) -> bool:
        """Returns True when a command of nexus with these columns is processed.

        Source: SPC2r20 5.5.1
        """
        return self.holder in (None, nexus) or Access.SPC2 in access
