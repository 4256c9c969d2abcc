"""Names every rule that decides what becomes of a command against reservations, with its clause and strict answer.

A rule is the heart of an explanation: a refusal is raised with it, a change is recorded with it, and a personality is
mostly a table from rules to other answers. No state and no decision is here.
"""

from enum import Enum
from typing import NamedTuple

from iscsi_target.scsi.status import CheckCondition, ReservationConflict, Sense, SenseKey, Status, StatusError
from iscsi_target.wire.layout import FieldPointer


class Answer(NamedTuple):
    """What an initiator is told.

    key, code   sense key and ADDITIONAL SENSE CODE << 8 | QUALIFIER, for CHECK CONDITION
    Source: SAM5r21 5.3.1, SPC4r37 4.5
    """

    status: Status
    key: SenseKey = SenseKey.NO_SENSE
    code: int = 0

    def __str__(self) -> str:
        if self.status is not Status.CHECK_CONDITION:
            return self.status.name.replace("_", " ")
        return f"{self.key:X}/{self.code >> 8:02X}/{self.code & 0xFF:02X}"


def _illegal(code: int) -> Answer:
    return Answer(Status.CHECK_CONDITION, SenseKey.ILLEGAL_REQUEST, code)


GOOD = Answer(Status.GOOD)
CONFLICT = Answer(Status.RESERVATION_CONFLICT)
LIST_LENGTH = _illegal(0x1A00)  # PARAMETER LIST LENGTH ERROR
IN_CDB = _illegal(0x2400)  # INVALID FIELD IN CDB
IN_LIST = _illegal(0x2600)  # INVALID FIELD IN PARAMETER LIST
INVALID_RELEASE = _illegal(0x2604)  # INVALID RELEASE OF PERSISTENT RESERVATION
NO_RESERVATION_RESOURCES = _illegal(0x5502)  # INSUFFICIENT RESERVATION RESOURCES
NO_REGISTRATION_RESOURCES = _illegal(0x5504)  # INSUFFICIENT REGISTRATION RESOURCES
TARGET_FAILURE = Answer(Status.CHECK_CONDITION, SenseKey.HARDWARE_ERROR, 0x4400)  # INTERNAL TARGET FAILURE
LOST = Answer(Status.CHECK_CONDITION, SenseKey.DATA_PROTECT, 0x4401)  # PERSISTENT RESERVATION INFORMATION LOST


class Rule(Enum):
    """A rule; its value is a statement about the command, where it stands, and what `strict` answers.

    GOOD in the third place means that the command does what it asked for, or that the case is no reason to refuse it.
    """

    # A command against a reservation
    SPC2_RESERVED = "another nexus has reserved the unit with RESERVE", "SPC2r20 5.5.1", CONFLICT
    HOLDER_ONLY = "the reservation admits only its holder to this command", "SPC4r37 5.13.1", CONFLICT
    REGISTRANTS_ONLY = "the reservation admits only registered nexuses to this command", "SPC4r37 5.13.1", CONFLICT
    SPC2_RESERVATION_PRESENT = (
        "persistent reservations cannot be used while the unit is reserved with RESERVE",
        "SPC2r20 5.5.1",
        CONFLICT,
    )
    REGISTRATIONS_PRESENT = "RESERVE and RELEASE conflict while a nexus is registered", "SPC2r20 5.5.1", CONFLICT
    INFORMATION_LOST = "the stored reservations are lost and have not been replaced", "SPC4r37 5.13.5.3.2", LOST

    # The CDB and the parameter list
    CDB_INVALID = "the CDB has a field that is not allowed", "SPC4r37 6.16.1", IN_CDB
    ATTENTION_FIRST = "a unit attention is reported instead, and the command is to be sent again", "SAM5r21 5.14", GOOD
    LIST_LENGTH_WRONG = "the parameter list does not have the length of its kind", "SPC4r37 6.16.1", LIST_LENGTH
    LIST_TRUNCATED = "the parameter list does not end where its TransportIDs do", "SPC4r37 6.16.3", LIST_LENGTH
    TRANSPORT_ID_INVALID = "a TransportID is not one of an iSCSI initiator port", "SPC4r37 7.6.4.6", IN_LIST
    TRANSPORT_ID_UNKNOWN = "no initiator port of this name is known", "SPC4r37 7.6.4.6", IN_LIST
    SCOPE_INVALID = "the scope is not the logical unit", "SPC4r37 6.15.3.3", IN_CDB
    TYPE_INVALID = "the type is not one of the six", "SPC4r37 6.15.3.4", IN_CDB
    SPEC_I_PT_NOT_ALLOWED = "SPEC_I_PT is for REGISTER only", "SPC4r37 6.16.3", IN_LIST
    SPEC_I_PT_UNSUPPORTED = "SPEC_I_PT is not supported", "SPC4r37 6.15.4", IN_LIST
    ALL_TG_PT_NOT_ALLOWED = "ALL_TG_PT means nothing to this service action", "SPC4r37 6.16.3", GOOD
    ALL_TG_PT_UNSUPPORTED = "ALL_TG_PT is not supported", "SPC4r37 6.16.3", IN_LIST
    APTPL_NOT_ALLOWED = "APTPL means nothing to this service action", "SPC4r37 6.16.3", GOOD
    APTPL_UNSUPPORTED = "APTPL is not supported", "SPC4r37 6.16.3", IN_LIST
    LIST_EMPTY = "SPEC_I_PT comes without a TransportID", "SPC4r37 6.16.3", GOOD
    ALLOCATION_SHORT = "the allocation length is shorter than the data", "SPC4r37 4.2.5.6", GOOD

    # Who may use a service action
    NOT_REGISTERED = "the nexus is not registered", "SPC4r37 5.13.7", CONFLICT
    KEY_MISMATCH = "the RESERVATION KEY is not the one that the nexus is registered with", "SPC4r37 6.16.3", CONFLICT
    KEY_NOT_ZERO = (
        "the nexus is not registered, so its RESERVATION KEY has to be zero",
        "SPC4r37 5.13.7",
        CONFLICT,
    )

    # Registering
    REGISTERED_SPEC_I_PT = "a registered nexus cannot register others", "SPC4r37 5.13.7", IN_LIST
    LISTED_PORT_REGISTERED = "a listed initiator port is registered already", "SPC4r37 5.13.7", IN_LIST
    LISTED_TWICE = "an initiator port is listed twice", "SPC4r37 6.16.3", IN_LIST
    ALL_TG_PT_CHANGED = (
        "the nexus is registered through one target port and cannot change to all of them",
        "SPC4r37 6.16.3",
        GOOD,
    )
    TABLE_FULL = "there is no room for another registration", "SPC4r37 5.13.7", NO_REGISTRATION_RESOURCES
    NOT_STORED = "the registrations could not be written to the state file", "SPC4r37 5.13.7", NO_REGISTRATION_RESOURCES
    RESERVATION_NOT_STORED = (
        "the reservation could not be written to the state file",
        "SPC4r37 5.13.5.1",
        NO_RESERVATION_RESOURCES,
    )
    CHANGE_NOT_STORED = "the change could not be written to the state file", "SPC4r37 5.13.5.1", TARGET_FAILURE
    REGISTERED = "the nexus is registered", "SPC4r37 5.13.7", GOOD
    KEY_CHANGED = "the nexus is registered with another key", "SPC4r37 5.13.7", GOOD
    UNREGISTERED = "the nexus is not registered any more", "SPC4r37 5.13.11.2.3", GOOD
    NOT_REGISTERED_BEFORE = "the nexus was not registered, so nothing is removed", "SPC4r37 5.13.7", GOOD

    # Reserving and releasing
    RESERVED_BY_ANOTHER = "another nexus holds the reservation", "SPC4r37 5.13.9", CONFLICT
    HELD_DIFFERENTLY = "a holder cannot change the type of its reservation", "SPC4r37 5.13.9", CONFLICT
    RESERVED = "the nexus holds the reservation", "SPC4r37 5.13.9", GOOD
    RESERVED_BEFORE = "the nexus held this reservation already", "SPC4r37 5.13.9", GOOD
    RELEASE_MISMATCH = "scope and type are not those of the reservation", "SPC4r37 5.13.11.2.2", INVALID_RELEASE
    RELEASED = "the reservation is released", "SPC4r37 5.13.11.2.2", GOOD
    NOTHING_TO_RELEASE = "there is no reservation, so nothing is released", "SPC4r37 5.13.11.2.2", GOOD
    NOT_HELD = "the nexus holds no reservation, so nothing is released", "SPC4r37 5.13.11.2.2", GOOD
    CLEARED = "all registrations are removed and the reservation is released", "SPC4r37 5.13.11.2.7", GOOD

    # Preempting
    KEY_UNKNOWN = "no nexus is registered with the SERVICE ACTION RESERVATION KEY", "SPC4r37 5.13.11.2.5", CONFLICT
    ZERO_KEY_UNRESERVED = "no nexus is registered with the key zero", "SPC4r37 5.13.11.2.5", CONFLICT
    ZERO_KEY = "the key zero preempts only all registrants reservations", "SPC4r37 5.13.11.2.4.1", IN_LIST
    PREEMPTED = "the reservation is taken over", "SPC4r37 5.13.11.2.4.3", GOOD
    REGISTRATIONS_REMOVED = "the registrations with the key are removed", "SPC4r37 5.13.11.2.5", GOOD

    # Moving
    NOTHING_TO_MOVE = "there is no reservation to move", "SPC4r37 5.13.8", IN_CDB
    NOT_HOLDER = "only the holder can move the reservation", "SPC4r37 5.13.8", CONFLICT
    ALL_REGISTRANTS_HOLD = "an all registrants reservation cannot be moved", "SPC4r37 5.13.8", CONFLICT
    MOVE_TO_NO_KEY = "the new holder cannot be registered with the key zero", "SPC4r37 5.13.8", IN_LIST
    MOVE_TO_SELF = "the reservation cannot be moved to the initiator port that holds it", "SPC4r37 5.13.8", IN_LIST
    MOVE_TO_UNREGISTERED = "the new holder is not registered with its key yet", "SPC4r37 5.13.8", GOOD
    TARGET_PORT_UNKNOWN = "no target port has this relative identifier", "SPC4r37 6.16.4", IN_LIST
    MOVED = "the reservation is moved to another nexus", "SPC4r37 5.13.8", GOOD

    # Lost and replaced
    NOTHING_LOST = "no reservation was lost, so none is replaced", "SPC4r37 5.13.11.3", INVALID_RELEASE
    REPLACEMENT_KEY = (
        "the RESERVATION KEY has to be zero and the SERVICE ACTION RESERVATION KEY must not",
        "SPC4r37 5.13.11.3",
        IN_LIST,
    )
    REPLACED = "the lost reservation is replaced", "SPC4r37 5.13.11.3", GOOD

    def __init__(self, text: str, clause: str, answer: Answer) -> None:
        self.text = text
        self.clause = clause
        self.answer = answer


# The rules whose field is one of the CDB
ABOUT_CDB = frozenset({Rule.SCOPE_INVALID, Rule.TYPE_INVALID, Rule.ALLOCATION_SHORT})


class RefusedByRule(CheckCondition):
    """A rule of reservations ends the command with CHECK CONDITION.

    rule   the one
    Source: SPC4r37 5.13
    """

    def __init__(self, rule: Rule, sense: Sense) -> None:
        super().__init__(sense)
        self.rule = rule


class ConflictByRule(ReservationConflict):
    """A rule of reservations ends the command with RESERVATION CONFLICT.

    rule   the one
    Source: SPC4r37 5.13
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule


def rule_of(error: StatusError) -> Rule | None:
    """Returns the rule that ended a command, or None when it was none of reservations."""
    return error.rule if isinstance(error, RefusedByRule | ConflictByRule) else None


def refusal(rule: Rule, answer: Answer, field: FieldPointer | None = None) -> StatusError:
    """Returns what a handler raises because of a rule.

    answer    what the personality says to the rule; not GOOD
    field     the field in error: of the CDB for a rule about it, of the parameter list otherwise; left out when the
              personality answers with the other of the two
    Source: SPC4r37 4.5.2.4.2
    """
    if answer.status is Status.RESERVATION_CONFLICT:
        return ConflictByRule(rule)
    assert answer.status is Status.CHECK_CONDITION
    in_cdb = answer.code == IN_CDB.code
    points = answer.code in (IN_CDB.code, IN_LIST.code) and in_cdb == (rule in ABOUT_CDB)
    sense = Sense(answer.key, answer.code, field=field if points else None, in_cdb=in_cdb)
    return RefusedByRule(rule, sense)
