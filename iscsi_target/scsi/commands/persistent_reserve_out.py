"""PERSISTENT RESERVE OUT: makes a request of the CDB and the parameter list, which is checked whole before it is used.

What a request leads to is in `transitions`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import NoReturn

from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList, MoveParameterList, TransportIdList
from iscsi_target.scsi.layouts.transport_id import (
    MIN_TRANSPORT_ID_BYTES,
    InvalidTransportId,
    TransportId,
    unpack_transport_id,
)
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import OutAction, Quirk
from iscsi_target.scsi.reservations.reservation_request import Request, TasksAborted, Transition
from iscsi_target.scsi.reservations.reservations import LU_SCOPE, Cause, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.reservations.transitions import (
    ALL_TG_PT_FIELD,
    FLAGS_FIELD,
    SCOPE_FIELD,
    TRANSPORT_ID_FIELD,
    apply,
    overrule,
    verify_sender,
)
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Change, Save
from iscsi_target.wire.layout import FieldPointer

MAX_PARAMETER_LIST_BYTES = 1 << 16  # bounds what an initiator can make us hold; 260 of the longest TransportIDs
TRANSPORT_IDS_AT = BasicParameterList.size + TransportIdList.size
PORT_FIELD = FieldPointer(18, 7)
APTPL_FIELD = FieldPointer(20, 0)
TRANSPORT_ID_LENGTH_FIELD = FieldPointer(20, 7)

# What could not be stored, by service action
NOT_STORED: Mapping[OutAction, Rule] = {
    OutAction.REGISTER: Rule.NOT_STORED,
    OutAction.RESERVE: Rule.RESERVATION_NOT_STORED,
    OutAction.RELEASE: Rule.CHANGE_NOT_STORED,
    OutAction.CLEAR: Rule.CHANGE_NOT_STORED,
    OutAction.PREEMPT: Rule.CHANGE_NOT_STORED,
    OutAction.PREEMPT_AND_ABORT: Rule.CHANGE_NOT_STORED,
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: Rule.NOT_STORED,
    OutAction.REGISTER_AND_MOVE: Rule.NOT_STORED,
    OutAction.REPLACE_LOST_RESERVATION: Rule.NOT_STORED,
}


def command_name(action: OutAction) -> str:
    """Returns what a service action is called in the table, in traces and in explanations."""
    return f"PERSISTENT RESERVE OUT, {action}"


def wanted_by_persistent_reserve_out(device: Device, cdb: PersistentReserveOut) -> int:
    """Returns the bytes of Data-Out that PERSISTENT RESERVE OUT asks for, none for a length that will be refused.

    Source: SPC4r37 6.16.1
    """
    fits = BasicParameterList.size <= cdb.parameter_list_length <= MAX_PARAMETER_LIST_BYTES
    return cdb.parameter_list_length if fits else 0


def persistent_reserve_out(device: Device, cdb: PersistentReserveOut, call: Call) -> Change | Save:
    """Answers PERSISTENT RESERVE OUT.

    returns  Save when the change has to survive a power loss
    raises   StatusError with the rule that refuses it
    Source: SPC4r37 6.16
    """
    reader = _Reader(device, cdb, call)
    if device.spc2_excludes(call.nexus):
        reader.refuse(Rule.SPC2_RESERVATION_PRESENT)
    request = reader.move_request() if reader.action is OutAction.REGISTER_AND_MOVE else reader.basic_request()
    transition = apply(device.reservations, call.nexus, request, device.personality)
    if request.action is OutAction.PREEMPT_AND_ABORT and device.personality.has(Quirk.EVERYBODY_ABORTED):
        everybody = tuple(TasksAborted(nexus) for nexus in call.attached)
        transition = transition._replace(consequences=transition.consequences + everybody)
    return _stored(device, reader, transition)


def overruling(device: Device, cdb: PersistentReserveOut, call: Call) -> Change | Save:
    """Does what the operator wants: CLEAR, which ends an SPC-2 reservation too, PREEMPT or PREEMPT AND ABORT.

    raises   ReservationConflict when nothing is registered with the key
    """
    assert call.nexus == OPERATOR
    reader = _Reader(device, cdb, call)
    transition = overrule(device.reservations, reader.basic_request())

    def end_spc2_reservation() -> None:
        if reader.action is OutAction.CLEAR:
            device.spc2_reservation = Spc2Reservation()

    return _stored(device, reader, transition, end_spc2_reservation)


def _stored(
    device: Device, reader: "_Reader", transition: Transition, then: Callable[[], None] = lambda: None
) -> Change | Save:
    """Returns how a transition is carried out: by way of the state file when what is to be stored changes.

    then    what else changes when it is on disk
    Source: SPC4r37 5.13.5.1
    """

    def finish() -> Change:
        then()
        return Change(transition)

    if transition.state.stored == device.reservations.stored:
        return finish()
    rule = NOT_STORED[reader.action]
    return Save(
        device.kept(reservations=transition.state),
        finish=finish,
        failure=lambda: device.personality.refusal(rule, reader.action),
    )


class _Reader:
    """Reads one parameter list."""

    def __init__(self, device: Device, cdb: PersistentReserveOut, call: Call) -> None:
        self.action = OutAction(cdb.service_action)
        self._device = device
        self._cdb = cdb
        self._call = call
        self._list = bytes(call.data_out)

    def refuse(self, rule: Rule, field: FieldPointer | None = None) -> NoReturn:
        """Raises what the personality answers to a rule."""
        raise self._device.personality.refusal(rule, self.action, field)

    def _mind(self, rule: Rule, field: FieldPointer) -> None:
        self._device.personality.mind(rule, self.action, field)

    @property
    def _cause(self) -> Cause:
        return Cause(command_name(self.action), self._call.nexus, self._call.received_s)

    @property
    def _registers(self) -> bool:
        return self.action in (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)

    def _verify_sender(self, key: int) -> None:
        """Raises when the nexus may not use the service action with this key, before the rest of the list is read."""
        device, nexus = self._device, self._call.nexus
        if nexus != OPERATOR:
            verify_sender(device.reservations, nexus, Request(self.action, self._cause, key), device.personality)

    def _check_length(self) -> None:
        complete = len(self._list) == self._cdb.parameter_list_length
        if not complete or len(self._list) < BasicParameterList.size:
            self.refuse(Rule.LIST_LENGTH_WRONG)

    def basic_request(self) -> Request:
        self._check_length()
        fields = BasicParameterList.unpack(self._list)
        self._verify_sender(fields.reservation_key)
        self._check_flags(fields)
        if not fields.spec_i_pt and len(self._list) != BasicParameterList.size:
            self.refuse(Rule.LIST_LENGTH_WRONG)
        here = self._call.nexus.target_port
        every = fields.all_tg_pt and self._registers
        ports = list(dict.fromkeys((here, *self._device.ports))) if every else [here]
        own = self._call.nexus.initiator_port
        listed = list(self._listed()) if self._registers_listed(fields) else []
        return Request(
            action=self.action,
            cause=self._cause,
            reservation_key=fields.reservation_key,
            service_action_reservation_key=fields.service_action_reservation_key,
            scope=self._cdb.scope,
            type=self._cdb.type,
            aptpl=fields.aptpl,
            spec_i_pt=fields.spec_i_pt,
            no_attention_on_release=self._device.modes.no_attention_on_release,
            siblings=tuple(Nexus(own, port) for port in ports if port != here),
            listed=tuple(Nexus(each, port) for each in dict.fromkeys(listed) if each != own for port in ports),
        )

    def _registers_listed(self, fields: BasicParameterList) -> bool:
        """Returns True when the TransportIDs matter; where the keys decide alone they are ignored, whatever they are.

        Source: SPC4r37 5.13.7 table 67
        """
        registered = self._call.nexus in self._device.reservations.registrations
        new_key = not fields.reservation_key and fields.service_action_reservation_key != 0
        return fields.spec_i_pt and new_key and not registered

    def _check_flags(self, fields: BasicParameterList) -> None:
        personality = self._device.personality
        if fields.spec_i_pt:
            if self.action is not OutAction.REGISTER:
                self.refuse(Rule.SPEC_I_PT_NOT_ALLOWED, FLAGS_FIELD)
            elif not personality.specify_initiator_ports:
                self.refuse(Rule.SPEC_I_PT_UNSUPPORTED, FLAGS_FIELD)
        if fields.all_tg_pt:
            if not self._registers:
                self._mind(Rule.ALL_TG_PT_NOT_ALLOWED, ALL_TG_PT_FIELD)
            elif not personality.all_target_ports:
                self.refuse(Rule.ALL_TG_PT_UNSUPPORTED, ALL_TG_PT_FIELD)
        if fields.aptpl:
            if not self._registers and self.action is not OutAction.REPLACE_LOST_RESERVATION:
                self._mind(Rule.APTPL_NOT_ALLOWED, APTPL_FIELD)
            elif not personality.persists:
                self.refuse(Rule.APTPL_UNSUPPORTED, APTPL_FIELD)

    def _listed(self) -> Iterator[InitiatorPort]:
        """Returns the initiator ports of the TransportIDs, those of a device name for the name.

        Source: SPC4r37 6.16.3, 7.6.4.6
        """
        if len(self._list) < TRANSPORT_IDS_AT:
            self.refuse(Rule.LIST_TRUNCATED)
        length = TransportIdList.unpack(self._list, BasicParameterList.size).transportid_parameter_data_length
        end = TRANSPORT_IDS_AT + length
        surplus = len(self._list) - end
        if surplus < 0 or (surplus and not self._device.personality.has(Quirk.TRAILING_BYTES_IGNORED)):
            self.refuse(Rule.LIST_TRUNCATED)
        if not length:
            self._mind(Rule.LIST_EMPTY, FieldPointer(BasicParameterList.size, 7))
        self._list = self._list[:end]
        seen = set()
        offset = TRANSPORT_IDS_AT
        while offset < end:
            found = self._transport_id(offset)
            if (found.name, found.isid) in seen:
                self.refuse(Rule.LISTED_TWICE, FieldPointer(offset, 7))
            seen.add((found.name, found.isid))
            yield from self._ports_of(found, offset)
            offset += found.length_bytes

    def _transport_id(self, offset: int) -> TransportId:
        try:
            return unpack_transport_id(self._list, offset)
        except InvalidTransportId as error:
            self.refuse(Rule.LIST_TRUNCATED if error.cut else Rule.TRANSPORT_ID_INVALID, FieldPointer(offset, 7))

    def _ports_of(self, found: TransportId, offset: int) -> Iterable[InitiatorPort]:
        if found.isid is not None:
            return [InitiatorPort(found.name, found.isid)]
        if found.name not in self._known:
            self.refuse(Rule.TRANSPORT_ID_UNKNOWN, FieldPointer(offset, 7))
        return self._known[found.name]

    @cached_property
    def _known(self) -> Mapping[str, dict[InitiatorPort, None]]:
        """The initiator ports that are attached or registered, by name."""
        known: dict[str, dict[InitiatorPort, None]] = {}
        for nexus in (*self._call.attached, *self._device.reservations.registrations):
            known.setdefault(nexus.initiator_port.name, {})[nexus.initiator_port] = None
        return known

    def move_request(self) -> Request:
        self._check_length()
        if self._cdb.scope != LU_SCOPE and self._device.personality.has(Quirk.SCOPE_ALWAYS_CHECKED):
            self.refuse(Rule.SCOPE_INVALID, SCOPE_FIELD)
        fields = MoveParameterList.unpack(self._list)
        self._verify_sender(fields.reservation_key)
        if fields.aptpl and not self._device.personality.persists:
            self.refuse(Rule.APTPL_UNSUPPORTED, FieldPointer(17, 0))
        length = fields.transportid_length
        if length < MIN_TRANSPORT_ID_BYTES or length % 4:
            self.refuse(Rule.TRANSPORT_ID_INVALID, TRANSPORT_ID_LENGTH_FIELD)
        if MoveParameterList.size + length != len(self._list):
            self.refuse(Rule.LIST_TRUNCATED)
        found = self._transport_id(MoveParameterList.size)
        if found.isid is None or found.length_bytes != length:
            self.refuse(Rule.TRANSPORT_ID_INVALID, TRANSPORT_ID_FIELD)
        return Request(
            action=self.action,
            cause=self._cause,
            reservation_key=fields.reservation_key,
            service_action_reservation_key=fields.service_action_reservation_key,
            aptpl=fields.aptpl,
            destination=Nexus(
                InitiatorPort(found.name, found.isid), self._port(fields.relative_target_port_identifier)
            ),
            unregister=fields.unreg,
        )

    def _port(self, relative_identifier: int) -> TargetPort:
        ports = {identity.relative_identifier: port for port, identity in self._device.ports.items()}
        if relative_identifier not in ports:
            self.refuse(Rule.TARGET_PORT_UNKNOWN, PORT_FIELD)
        return ports[relative_identifier]
