"""What the command table says of one command; the table itself is in `table`.

`command` makes a row and checks that the handler and the Data-Out function take the layout that the row names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.shortcut import Shortcut
from iscsi_target.scsi.layouts.cdb import Control
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.port_groups import Reachable
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Call, Reply
from iscsi_target.scsi.status import InvalidFieldInCdb, ReservedBitInCdb
from iscsi_target.wire.layout import FieldPointer, Layout, LayoutError

CdbT = TypeVar("CdbT", bound=Layout)
CONTROL_BITS = Control.mask("naca")  # what is evaluated of CONTROL


class Row(NamedTuple):
    """The part of a command that is the same data for every layout.

    name            the standard's name
    access          where it is processed although another nexus holds a reservation; a CDB that does less may
                    be granted more: see `Command.columns`
    clause          where the standard describes it
    attention       True when a pending unit attention pre-empts it
    medium_access   True when it needs a loaded and started medium
    unsupported     fields that must be zero, and all of CONTROL but NACA besides
    exclusive       True when it may change what the state file keeps or the reservations: one at a time
    service_action  which of those that share the layout; None takes the layout's own, if it has one
    available       False for a device that does not have the command
    head_of_queue   True when it goes there whatever its task attribute
    sanitizing      says of a CDB that it is processed although the medium is being sanitized
    mends           says of a sanitize operation, or a format, that has failed that it is processed all the same
    unsized         True when the CDB does not say how much Data-Out there is: what the initiator has is taken
    reachable       in which states of a target port group it is processed besides the active ones
    Source: SPC4r37 6.1, SBC3r36 5.1
    """

    name: str
    access: Access
    clause: str
    attention: bool = True
    medium_access: bool = False
    unsupported: tuple[str, ...] = ()
    exclusive: bool = False
    service_action: int | None = None
    available: Callable[[Device], bool] = lambda device: True
    head_of_queue: bool = False
    sanitizing: Callable[..., bool] = lambda cdb: False
    mends: Callable[[Sanitization], bool] = lambda failed: False
    unsized: bool = False
    reachable: Reachable = Reachable.NOWHERE_ELSE


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One row of the command table; compared by identity.

    layout          of the CDB
    operation_code  0..255
    service_action  None when the operation code has none
    available       False for a device that does not have the command
    handler         what the command does; raises StatusError
    data_out        bytes of Data-Out that a CDB asks for, 0 for one that will be refused; raises nothing
    relaxed         the access of a CDB that does less than others, None for the row's own; None: no CDB does less
    zeros           a mask of the bits of a CDB that must be zero
    first_byte      of every CDB
    shortcut        makes the quick way to what most CDBs ask of the medium, or None
    Source: SPC4r37 4.2.5, 6.35
    """

    row: Row
    layout: type[Layout]
    operation_code: int
    service_action: int | None
    available: Callable[[Device], bool]
    handler: Callable[[Device, Layout, Call], Reply]
    data_out: Callable[[Device, Layout], int]
    relaxed: Callable[[Layout], Access | None] | None
    zeros: int
    first_byte: bytes
    shortcut: Callable[[Device], Shortcut] | None = None

    @property
    def name(self) -> str:
        """The standard's name."""
        return self.row.name

    @property
    def takes_data(self) -> bool:
        """True when there are CDBs that want Data-Out."""
        return self.data_out is not _no_data

    @property
    def access(self) -> Access:
        """The access of a CDB that does the most."""
        return self.row.access

    def columns(self, cdb: Layout) -> Access:
        """Returns the access of one CDB."""
        access = None if self.relaxed is None else self.relaxed(cdb)
        return self.row.access if access is None else access

    @property
    def attention(self) -> bool:
        """True when a pending unit attention pre-empts the command."""
        return self.row.attention

    @property
    def medium_access(self) -> bool:
        """True when the command needs a loaded and started medium."""
        return self.row.medium_access

    def passes(self, cdb: Layout, under_way: Sanitization) -> bool:
        """Returns True for a command that is processed while the medium is sanitized or formatted, or after a failure.

        While it is formatted only what no unit attention pre-empts is: INQUIRY, REPORT LUNS and REQUEST SENSE. After a
        format that has failed, everything is that does not need the medium.
        Source: SBC3r36 4.11.2, 4.11.3, 5.3.1, SBC4r22 4.11.2
        """
        if under_way.failed and self.row.mends(under_way):
            return True
        if under_way.method is not Method.FORMAT:
            return self.row.sanitizing(cdb)
        if under_way.failed:
            return not self.medium_access or self.row.sanitizing(cdb)
        return not self.attention

    def unpack(self, cdb: bytes) -> Layout:
        """Returns the fields of a CDB.

        cdb      at least as long as the layout; what follows it is padding
        raises   InvalidFieldInCdb or ReservedBitInCdb with a field pointer when a reserved bit or an unsupported
                 field is not zero, or when the CDB is too short
        Source: SPC4r37 4.2.5, 4.5.2.4.2
        """
        try:
            value = self.layout.unpack(cdb)
        except LayoutError:
            raise InvalidFieldInCdb(self.layout, "operation_code") from None
        if self.layout.has_any(cdb, self.zeros):
            raise self._nonzero(cdb, value)
        return value

    def _nonzero(self, cdb: bytes, value: Layout) -> InvalidFieldInCdb | ReservedBitInCdb:
        reserved = self.layout.reserved_bit(cdb)
        if reserved:
            return ReservedBitInCdb(reserved)
        for name in self.row.unsupported:
            if getattr(value, name):
                return InvalidFieldInCdb(self.layout, name)
        control = self.layout.location("control")
        wrong = Control.reserved_bit(cdb[control.byte :])
        assert wrong is not None
        return ReservedBitInCdb(FieldPointer(control.byte, wrong.bit))

    def usage(self) -> bytes:
        """Returns the CDB USAGE DATA: the code itself, and ones for every bit that is evaluated.

        Source: SPC4r37 6.35.3
        """
        ones = self.layout.unpack(self.layout.usage())
        codes = {"operation_code": self.operation_code}
        if self.service_action is not None:
            codes["service_action"] = self.service_action
        return ones.replace(**dict.fromkeys(self.row.unsupported, 0) | codes | {"control": CONTROL_BITS}).pack()


def _zeros(row: Row, layout: type[Layout]) -> int:
    """Returns a mask of the bits that must be zero."""
    after_control = layout.size - layout.location("control").byte - Control.size
    naca = CONTROL_BITS << after_control * 8
    return layout.mask("_", "control", *row.unsupported) & ~naca


def _no_data(_device: Device, _cdb: Layout) -> int:
    return 0


def command(
    row: Row,
    layout: type[CdbT],
    handler: Callable[[Device, CdbT, Call], Reply],
    data_out: Callable[[Device, CdbT], int] = _no_data,
    relaxed: Callable[[CdbT], Access | None] | None = None,
) -> Command:
    """Returns a row of the table; its functions get nothing but values of its layout.

    row, layout, handler, data_out, relaxed   as in `Command`
    """
    service_action = row.service_action
    if service_action is None and "service_action" in layout.fields:
        service_action = layout.default("service_action")
    operation_code = layout.default("operation_code")
    return Command(
        row,
        layout,
        operation_code,
        service_action,
        row.available,
        handler,  # type: ignore[arg-type]  # `Command.unpack` makes a value of the layout that the handler takes
        data_out,  # type: ignore[arg-type]  # likewise
        relaxed,  # type: ignore[arg-type]  # likewise
        _zeros(row, layout),
        bytes([operation_code]),
    )


def shortened(long: Command, make: Callable[[type[Layout], Device], Shortcut]) -> Command:
    """Returns a row that has a shortcut besides.

    long   whose columns are the same for every CDB, which an attention pre-empts, and which changes nothing but the
           medium; doing its operation once more changes nothing
    make   makes the shortcut of a layout
    """
    assert long.attention
    assert long.relaxed is None
    assert long.service_action is None
    assert not long.row.exclusive
    return replace(long, shortcut=partial(make, long.layout))
