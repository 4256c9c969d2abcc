"""Hosts with sessions for the cases of persistent reservations; the drawing is in `tests/initiator`.

Each has LUN 0 of the node through portal group 1 or 2, and a key of its own: K1 whoever holds, K2 the other one.
"""

from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut, RequestSense
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from tests.conformance.reservations.world import K1, K2, WERO, basic
from tests.initiator import Host, Lab


def host(lab: Lab, name: str, portal_group_tag: int = 1) -> Host:
    """A host in full feature phase that has nothing to be told of LUN 0."""
    host = lab.connect(name, portal_group_tag)
    host.login()
    assert host.logged_in
    host.command(RequestSense(allocation_length=18), read=18)
    host.received.clear()
    return host


def out(host: Host, action: OutAction, parameters: bytes, kind: int = 0) -> int:
    """Sends PERSISTENT RESERVE OUT and returns its tag."""
    cdb = PersistentReserveOut(service_action=action, type=kind, parameter_list_length=len(parameters))
    return host.command(cdb, write=parameters, data=parameters)


def hold_and_register(holder: Host, other: Host) -> None:
    """The holder gets key K1 and the reservation, the other one key K2."""
    for each, action, parameters in (
        (holder, OutAction.REGISTER, basic(0, K1)),
        (holder, OutAction.RESERVE, basic(K1)),
        (other, OutAction.REGISTER, basic(0, K2)),
    ):
        assert each.outcome(out(each, action, parameters, WERO)).status == Status.GOOD


def asked(host: Host) -> ReadyToTransfer:
    [header] = [pdu.header for pdu in host.received if isinstance(pdu.header, ReadyToTransfer)]
    return header
