"""The columns in which commands say what they are granted while somebody else holds a reservation."""

from enum import Flag


class Access(Flag):
    """Where a command is processed although another nexus holds a reservation; every flag grants, absence denies.

    SPC2 is for SPC-2 reservations. The next five are the columns of the standard's table for persistent ones: the first
    two for any nexus, the third for a registered nexus under the registrants only and all registrants types, the last
    two for an unregistered nexus under those. REGISTRANT grants a registered nexus the first two columns as well, as
    the table of the service actions of PERSISTENT RESERVE OUT has it, and REGISTERED_WRITE_EXCLUSIVE the first one; no
    command of the standard needs the latter, but real targets do. LOST is for a unit that has lost its persistent
    reservations.

    ALWAYS, AS_READ and AS_WRITE are the three classes of commands that the tables know; none of them says anything of
    SPC-2 or lost reservations, so a row reads `Access.SPC2 | Access.ALWAYS` or `Access.AS_WRITE`.
    Source: SPC4r37 5.13.1 tables 65 and 66, 5.13.5.2, SBC3r36 4.17
    """

    SPC2 = 1
    WRITE_EXCLUSIVE = 2
    EXCLUSIVE_ACCESS = 4
    REGISTERED = 8
    UNREGISTERED_WRITE_EXCLUSIVE = 16
    UNREGISTERED_EXCLUSIVE_ACCESS = 32
    REGISTRANT = 64
    LOST = 128
    REGISTERED_WRITE_EXCLUSIVE = 256
    HOLDER = 0
    AS_WRITE = REGISTERED
    AS_REGISTRANT = REGISTERED | REGISTRANT
    AS_READ = WRITE_EXCLUSIVE | REGISTERED | UNREGISTERED_WRITE_EXCLUSIVE
    ALWAYS = AS_READ | EXCLUSIVE_ACCESS | UNREGISTERED_EXCLUSIVE_ACCESS
