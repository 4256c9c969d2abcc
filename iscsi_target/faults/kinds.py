"""The kinds of PDU that a rule can be about, by the names that people write."""

from typing import NamedTuple

from iscsi_target.iscsi import requests, responses
from iscsi_target.iscsi.header import BasicHeader
from iscsi_target.wire.codec import Form
from iscsi_target.wire.layout import Layout


class Kind(NamedTuple):
    """A kind of PDU, or all in one direction, or all.

    layouts    of the PDUs that are meant; of a kind by itself, one
    incoming   whether there are any that initiators send
    outgoing   whether there are any that the target sends
    """

    name: str
    layouts: tuple[type[Layout], ...]
    incoming: bool
    outgoing: bool

    @property
    def layout(self) -> type[Layout] | None:
        """The layout of a kind by itself, None when several are meant."""
        return self.layouts[0] if len(self.layouts) == 1 else None

    @property
    def is_command(self) -> bool:
        """True for SCSI Command alone."""
        return self.layout is requests.ScsiCommand

    def numbers(self) -> tuple[str, ...]:
        """Returns the names of the fields that are numbers or flags in all the layouts that are meant."""
        having = [number_fields(layout) for layout in self.layouts]
        return tuple(name for name in having[0] if all(name in names for names in having))


def number_fields(layout: type[Layout]) -> tuple[str, ...]:
    """Returns the names of the fields of a layout that are numbers or flags."""
    return tuple(field.name for field in layout.declared if not field.reserved and field.form is not Form.BYTES)


_INCOMING: dict[str, type[Layout]] = {
    "nop-out": requests.NopOut,
    "scsi-command": requests.ScsiCommand,
    "task-management-request": requests.TaskManagementRequest,
    "login-request": requests.LoginRequest,
    "text-request": requests.TextRequest,
    "data-out": requests.DataOut,
    "logout-request": requests.LogoutRequest,
    "snack-request": requests.SnackRequest,
}
_OUTGOING: dict[str, type[Layout]] = {
    "nop-in": responses.NopIn,
    "scsi-response": responses.ScsiResponse,
    "task-management-response": responses.TaskManagementResponse,
    "login-response": responses.LoginResponse,
    "text-response": responses.TextResponse,
    "data-in": responses.DataIn,
    "logout-response": responses.LogoutResponse,
    "r2t": responses.ReadyToTransfer,
    "async-message": responses.AsyncMessage,
    "reject": responses.Reject,
}

_ALL_INCOMING: tuple[type[Layout], ...] = (
    *_INCOMING.values(),
    BasicHeader,
)  # which stands for what has an unknown opcode
_ALL_OUTGOING = tuple(_OUTGOING.values())

KINDS: dict[str, Kind] = {
    **{name: Kind(name, (layout,), True, False) for name, layout in _INCOMING.items()},
    **{name: Kind(name, (layout,), False, True) for name, layout in _OUTGOING.items()},
    "in": Kind("in", _ALL_INCOMING, True, False),
    "out": Kind("out", _ALL_OUTGOING, False, True),
    "any": Kind("any", (*_ALL_INCOMING, *_ALL_OUTGOING), True, True),
}
NAMES: dict[type[Layout], str] = {layout: name for name, layout in (_INCOMING | _OUTGOING).items()} | {
    BasicHeader: "unknown"
}
