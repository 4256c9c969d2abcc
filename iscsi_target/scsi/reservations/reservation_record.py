"""The one JSON form of persistent reservations: for the state file, the operator, simulators and failing examples.

`to_record` and `from_record` are each other's inverse; what does not have this form, to the last digit and letter, is
refused whole.
"""

from collections.abc import Mapping

from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.wire.names import iscsi_name

MAX_KEY = (1 << 64) - 1
MAX_TIME_S = 253_402_300_798  # the last whole second but one of the year 9999, which dates end with
Record = dict[str, object]


class InvalidRecord(ValueError):
    """Says what is wrong with a record of reservations."""


def to_record(state: Reservations) -> Record:
    """Returns a state as values that JSON knows."""
    registrations = [{**_nexus_record(nexus), "key": f"{key:#x}"} for nexus, key in state.registrations.items()]
    return {
        "generation": state.generation,
        "aptpl": state.aptpl,
        "lost": state.lost,
        "registrations": registrations,
        "reservation": None if state.reservation is None else _reservation_record(state.reservation),
    }


def _reservation_record(reservation: Reservation) -> Record:
    cause = reservation.made_by
    return {
        "type": int(reservation.type),
        "holder": None if reservation.holder is None else _nexus_record(reservation.holder),
        "made_by": cause_record(cause),
    }


def cause_record(cause: Cause) -> Record:
    """Returns a command that made something so as values that JSON knows; the operator has no nexus."""
    return {"command": cause.command, "time": cause.time_s, "nexus": nexus_record(cause.nexus)}


def nexus_record(nexus: Nexus) -> Record | None:
    """Returns a nexus as values that JSON knows, None for the operator's."""
    return None if nexus == OPERATOR else _nexus_record(nexus)


def _nexus_record(nexus: Nexus) -> Record:
    return {
        "initiator": nexus.initiator_port.name,
        "isid": nexus.initiator_port.isid.hex(),
        "target": nexus.target_port.name,
        "portal_group_tag": nexus.target_port.portal_group_tag,
    }


def from_record(record: object) -> Reservations:
    """Returns the state that a record tells.

    raises    InvalidRecord when it is not one that `to_record` can have made
    """
    try:
        state = _state(_table(record))
    except InvalidRecord:
        raise
    except (KeyError, ValueError) as error:
        raise InvalidRecord(f"not a record of reservations: {type(error).__name__}: {error}") from error
    if to_record(state) != record:
        raise InvalidRecord("written in another way than reservations are")
    return state


def _state(record: Mapping[str, object]) -> Reservations:
    entries = record["registrations"]
    if not isinstance(entries, list):
        raise InvalidRecord("registrations are not a list")
    registrations = {_nexus(_table(entry)): _key(_table(entry)["key"]) for entry in entries}
    if len(registrations) != len(entries):
        raise InvalidRecord("a nexus is registered twice")
    found = record["reservation"]
    reservation = None if found is None else _reservation(_table(found))
    if reservation is not None and not _has_holder(reservation, registrations):
        raise InvalidRecord("the holder is not registered")
    state = Reservations(
        registrations=registrations,
        reservation=reservation,
        generation=_number(record["generation"], 0xFFFF_FFFF),
        aptpl=_flag(record["aptpl"]),
        lost=_flag(record["lost"]),
    )
    if state.lost and state != Reservations(lost=True):
        raise InvalidRecord("of lost reservations nothing is known")
    return state


def _has_holder(reservation: Reservation, registrations: Mapping[Nexus, int]) -> bool:
    if reservation.type.all_registrants:
        return reservation.holder is None and bool(registrations)
    return reservation.holder in registrations


def _reservation(record: Mapping[str, object]) -> Reservation:
    holder = record["holder"]
    kind = ReservationType(_number(record["type"], 15))
    return Reservation(kind, None if holder is None else _nexus(_table(holder)), _cause(_table(record["made_by"])))


def _cause(record: Mapping[str, object]) -> Cause:
    command, time_s, nexus = _text(record["command"]), record["time"], record["nexus"]
    if not isinstance(time_s, int | float) or isinstance(time_s, bool) or not 0 <= time_s <= MAX_TIME_S:
        raise InvalidRecord("a command has a time that is none")
    return Cause(command, OPERATOR if nexus is None else _nexus(_table(nexus)), float(time_s))


def _nexus(record: Mapping[str, object]) -> Nexus:
    isid = bytes.fromhex(_text(record["isid"]))
    if len(isid) != 6:
        raise InvalidRecord("an ISID has six bytes")
    initiator_port = InitiatorPort(iscsi_name(_text(record["initiator"])), isid)
    tag = _number(record["portal_group_tag"], 0xFFFF)
    return Nexus(initiator_port, TargetPort(iscsi_name(_text(record["target"])), tag))


def _table(found: object) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise InvalidRecord(f"{type(found).__name__} instead of an object")
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise InvalidRecord(f"{type(found).__name__} instead of a text")
    found.encode()  # half a surrogate pair is no text, though JSON can say it
    return found


def _flag(found: object) -> bool:
    if not isinstance(found, bool):
        raise InvalidRecord(f"{type(found).__name__} instead of true or false")
    return found


def _number(found: object, greatest: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= greatest:
        raise InvalidRecord(f"not a number of 0..{greatest}")
    return found


def _key(found: object) -> int:
    key = int(_text(found), 16)
    if not 0 < key <= MAX_KEY:
        raise InvalidRecord("no reservation key")
    return key
