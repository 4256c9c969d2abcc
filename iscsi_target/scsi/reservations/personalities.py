"""The targets that a unit can answer like, as data: only what differs from `STRICT` stands here.

The facts are what the sources of these targets say: LIO of Linux, COMSTAR as in NexentaStor (or as released in 2009,
where nothing is known of that), SCST, tgt, SPDK, and Openfiler, whose target has no persistent reservations at all.
LIO is held against the real one, of Linux 6.1, by `tools/differential`.
What the standard leaves open and a target does as `STRICT` needs no entry. The order of checks is ours.

A defect that would crash, corrupt, or let a node write that was fenced is not imitated; each personality names its own.
Everything else that can be seen from outside is, odd as it may be. A registration is not remembered to have been made
with ALL_TG_PT; where a target acts on that, it is taken for one when the same key is registered through every one of
several target ports.
"""

from collections.abc import Mapping

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.reservations.personality import (
    SHARED_TYPES,
    SINGLE_TYPES,
    STRICT,
    Audience,
    Event,
    InAction,
    Notice,
    OutAction,
    Personality,
    Quirk,
)
from iscsi_target.scsi.reservations.rules import (
    CONFLICT,
    GOOD,
    IN_CDB,
    IN_LIST,
    LIST_LENGTH,
    TARGET_FAILURE,
    Answer,
    Rule,
)
from iscsi_target.scsi.status import SenseKey, Status

COMMUNICATION_FAILURE = Answer(Status.CHECK_CONDITION, SenseKey.NOT_READY, 0x0800)  # LOGICAL UNIT COMMUNICATION FAILURE
NOT_READY = Answer(Status.CHECK_CONDITION, SenseKey.NOT_READY, 0x0000)  # without an additional sense code

# REPLACE LOST RESERVATION is what no known target has
NOTHING_REPLACED = frozenset(OutAction) - {OutAction.REPLACE_LOST_RESERVATION}

NOBODY = {
    event: Notice(Audience.NOBODY, AttentionCode.RESERVATIONS_RELEASED)
    for event in (Event.RELEASED, Event.HOLDER_UNREGISTERED, Event.TYPE_CHANGED)
} | {
    event: Notice(Audience.NOBODY, AttentionCode.RESERVATIONS_PREEMPTED)
    for event in (Event.CLEARED, Event.TAKEN_OVER, Event.RENEWED, Event.REMOVED)
}

READS = (
    *("READ(6)", "READ(10)", "READ(12)", "READ(16)"),
    *("VERIFY(10)", "VERIFY(12)", "VERIFY(16)", "PRE-FETCH(10)", "PRE-FETCH(16)", "GET LBA STATUS"),
    *("REPORT SUPPORTED OPERATION CODES", "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"),
)
MODE_SENSES = ("MODE SENSE(6)", "MODE SENSE(10)")
MODE_SELECTS = ("MODE SELECT(6)", "MODE SELECT(10)")

LIO = Personality(
    name="lio",
    vendor="LIO-ORG",
    product=None,
    revision="4.0",
    out_actions=NOTHING_REPLACED,
    allow_commands=1,
    shortest_allocations={
        InAction.READ_KEYS: 8,
        InAction.READ_RESERVATION: 8,
        InAction.REPORT_CAPABILITIES: 6,
        InAction.READ_FULL_STATUS: 8,
    },
    answers={
        Rule.INFORMATION_LOST: TARGET_FAILURE,
        Rule.ALLOCATION_SHORT: IN_CDB,
        Rule.SCOPE_INVALID: IN_LIST,
        Rule.RELEASE_MISMATCH: CONFLICT,
        (Rule.NOT_REGISTERED, OutAction.RESERVE): COMMUNICATION_FAILURE,
        (Rule.NOT_REGISTERED, OutAction.RELEASE): COMMUNICATION_FAILURE,
        (Rule.NOT_REGISTERED, OutAction.CLEAR): COMMUNICATION_FAILURE,
        (Rule.NOT_REGISTERED, OutAction.REGISTER_AND_MOVE): COMMUNICATION_FAILURE,
        Rule.ZERO_KEY_UNRESERVED: IN_LIST,
        (Rule.LIST_TRUNCATED, OutAction.REGISTER): IN_LIST,
    },
    quirks=frozenset(
        {
            Quirk.ATTENTION_BEFORE_CONFLICT,
            Quirk.EXEMPTS_CREATOR,
            Quirk.STATUS_RECOUNTED,
            Quirk.STATUS_ROOM_OVERRATED,
            Quirk.ALL_PORTS_BY_BIT,
            Quirk.NOTHING_NOT_COUNTED,
            Quirk.UNREGISTERING_NOT_COUNTED,
            Quirk.EACH_REGISTRATION_COUNTED,
            Quirk.LISTED_SKIPPED,
            Quirk.REGISTERED_ALONE,
            Quirk.ONLY_HOLDER_VERIFIED,
            Quirk.APTPL_ENDED_BY_CLEAR,
            Quirk.OWN_KEY_KEPT_BY_HOLDERS,
            Quirk.PREEMPT_TYPE_CHECKED,
            Quirk.CREATOR_HOLDS,
        }
    ),
    access=dict.fromkeys(("READ CAPACITY(10)", "READ CAPACITY(16)"), Access.AS_READ)
    | dict.fromkeys(MODE_SENSES, Access.AS_READ | Access.REGISTRANT)
    | dict.fromkeys(("REPORT LUNS", "REQUEST SENSE"), Access.ALWAYS | Access.LOST),
    not_imitated=(
        "commands without data that an unregistered nexus sends pass write exclusive reservations: a fenced node could"
        " write with those",
        "a registered nexus may not send commands without Data-In under Write Exclusive, though a stranger may: this"
        " belongs to the former",
        "a key preempted by its own holder is used after it was freed: memory is corrupted",
        "an initiator with another ISID may do what its registered one may: a fenced node could write",
        "the state file is cut short before it is written, and a failure to write it is ignored: reservations are lost",
        "a registration with ALL_TG_PT cannot be changed without it: the flag is not remembered, and hosts that"
        " register the same key through every path would be refused for nothing",
        "TransportIDs count only for initiators with an ACL: a logical unit knows no ACLs",
        "registrations go with the ACL of their initiator: a reservation would be lost",
        "TransportIDs register through the first target port, not that of the command: the wrong node would be fenced",
        "an issuer that lists itself is registered twice, as is what ALL_TG_PT adds once more: there is no such state",
        "lists with a port twice, or without NUL, are taken, and a third party of RESERVE is passed over: a host would"
        " believe what is not so",
        "a unit attention goes to any session with the initiator's name, and takes others along: hosts would miss some",
        "of two reasons to refuse a command the other one is told: the order of checks is ours",
        "a new unit inherits what was stored for an old one with its serial number: it would be reserved by strangers",
    ),
)

COMSTAR = Personality(
    name="comstar",
    vendor="NEXENTA",
    product="COMSTAR",
    revision="1.0",
    out_actions=NOTHING_REPLACED,
    compatible_handling=False,
    allow_commands=0,
    answers={
        Rule.INFORMATION_LOST: TARGET_FAILURE,
        Rule.REGISTRATIONS_PRESENT: GOOD,
        Rule.REGISTERED_SPEC_I_PT: IN_CDB,
        Rule.ALL_TG_PT_CHANGED: IN_CDB,
        Rule.LISTED_TWICE: IN_CDB,
        Rule.LISTED_PORT_REGISTERED: IN_CDB,
        Rule.LIST_EMPTY: LIST_LENGTH,
        Rule.ZERO_KEY: IN_CDB,
        (Rule.NOT_REGISTERED, OutAction.REGISTER_AND_MOVE): IN_CDB,
        Rule.MOVE_TO_NO_KEY: IN_CDB,
        Rule.NOTHING_TO_MOVE: CONFLICT,
        Rule.TARGET_PORT_UNKNOWN: IN_CDB,
    },
    quirks=frozenset(
        {
            Quirk.ALL_PORTS_BY_BIT,
            Quirk.ALL_PORTS_ONCE,
            Quirk.DEVICE_TRANSPORT_IDS,
            Quirk.OWN_KEY_KEPT,
            Quirk.OWN_KEY_KEPT_UNDER_ANOTHER,
            Quirk.EVERYBODY_ABORTED,
            Quirk.MOVED_BETWEEN_PORTS,
        }
    ),
    notices={
        Event.RELEASED: Notice(Audience.OTHERS, AttentionCode.RESERVATIONS_RELEASED, SHARED_TYPES),
        Event.HOLDER_UNREGISTERED: Notice(
            Audience.OTHERS, AttentionCode.RESERVATIONS_RELEASED, STRICT.notice(Event.HOLDER_UNREGISTERED).types
        ),
        Event.CLEARED: Notice(Audience.EVERYBODY, AttentionCode.RESERVATIONS_PREEMPTED),
        Event.TAKEN_OVER: Notice(Audience.OTHERS, AttentionCode.REGISTRATIONS_PREEMPTED, SHARED_TYPES),
        Event.REMOVED: Notice(Audience.NOBODY, AttentionCode.REGISTRATIONS_PREEMPTED),
        Event.TYPE_CHANGED: Notice(Audience.OTHERS, AttentionCode.REGISTRATIONS_PREEMPTED, SHARED_TYPES),
    },
    access={
        **dict.fromkeys(
            READS, Access.REGISTERED | Access.REGISTERED_WRITE_EXCLUSIVE | Access.UNREGISTERED_WRITE_EXCLUSIVE
        ),
        **dict.fromkeys(MODE_SENSES, Access.AS_WRITE),
        **dict.fromkeys(("RESERVE(6)", "RESERVE(10)"), Access.AS_WRITE),
        **dict.fromkeys(("RELEASE(6)", "RELEASE(10)"), Access.SPC2 | Access.AS_WRITE),
    },
    not_imitated=(
        "LOGICAL UNIT RESET, and taking the unit offline, remove registrations and the reservation unless they persist:"
        " a fenced node could write after a reset, which it may send itself",
        "a holder that preempts its own key leaves other nexuses registered that have it: what is fenced could write",
        "START STOP UNIT passes with START=0 in place of START=1: columns are those of a whole command",
        "lengths of eight bits take a parameter list of 280 bytes for one of 24, and lose names: memory is corrupted",
        "a registration through all target ports is one object, so any of its nexuses releases what one of them holds:"
        " registrations are one for each nexus",
        "ALL_TG_PT is forgotten when power is lost: registrations are stored one for each nexus",
        "names in TransportIDs need no NUL and are compared byte by byte: one initiator would be two",
    ),
)

SCST = Personality(
    name="scst",
    vendor="SCST_FIO",
    product=None,
    revision="370",
    out_actions=NOTHING_REPLACED,
    answers={
        Rule.INFORMATION_LOST: TARGET_FAILURE,
        (Rule.ALL_TG_PT_NOT_ALLOWED, OutAction.RESERVE): IN_LIST,
        Rule.MOVE_TO_NO_KEY: IN_CDB,
        (Rule.LIST_TRUNCATED, OutAction.REGISTER_AND_MOVE): IN_LIST,
    },
    quirks=frozenset(
        {
            Quirk.ATTENTION_BEFORE_CONFLICT,
            Quirk.NOTHING_WHEN_SHORT,
            Quirk.KEYS_WHOLE,
            Quirk.STATUS_LAST_DROPPED,
            Quirk.LISTED_OVERWRITTEN,
            Quirk.TRAILING_BYTES_IGNORED,
            Quirk.SCOPE_ALWAYS_CHECKED,
            Quirk.PREEMPT_TYPE_CHECKED,
            Quirk.OWN_KEY_KEPT,
        }
    ),
    not_imitated=(
        "GOOD although the state file could not be written: a reservation would be lost with the power",
        "TransportIDs of other protocols, and destinations without ISID or with an unknown target port, are stored as"
        " they are: nothing could ever be such a nexus",
        "BUSY when memory is short: registrations have a limit here, and 5/55/04 beyond it",
        "fields of the parameter list are read before its length is checked: memory is read that is not the list's",
    ),
)

TGT = Personality(
    name="tgt",
    vendor="IET",
    product="VIRTUAL-DISK",
    revision="0001",
    out_actions=NOTHING_REPLACED - {OutAction.PREEMPT_AND_ABORT},
    in_actions=frozenset(InAction) - {InAction.READ_FULL_STATUS},
    compatible_handling=False,
    specify_initiator_ports=False,
    all_target_ports=False,
    persists=False,
    allow_commands=0,
    shortest_allocations={
        InAction.READ_KEYS: 8,
        InAction.READ_RESERVATION: 8,
        InAction.REPORT_CAPABILITIES: 8,
    },
    answers={
        Rule.INFORMATION_LOST: TARGET_FAILURE,
        Rule.ALLOCATION_SHORT: IN_CDB,
        Rule.LIST_LENGTH_WRONG: IN_CDB,
        Rule.SPEC_I_PT_NOT_ALLOWED: IN_CDB,
        Rule.SPEC_I_PT_UNSUPPORTED: IN_CDB,
        Rule.ALL_TG_PT_NOT_ALLOWED: IN_CDB,
        Rule.ALL_TG_PT_UNSUPPORTED: IN_CDB,
        Rule.APTPL_NOT_ALLOWED: IN_CDB,
        Rule.APTPL_UNSUPPORTED: IN_CDB,
        (Rule.KEY_MISMATCH, OutAction.RESERVE): GOOD,
        Rule.ZERO_KEY_UNRESERVED: GOOD,
        Rule.ZERO_KEY: IN_CDB,
        (Rule.NOT_REGISTERED, OutAction.REGISTER_AND_MOVE): IN_CDB,
        (Rule.TRANSPORT_ID_INVALID, OutAction.REGISTER_AND_MOVE): IN_CDB,
        (Rule.LIST_TRUNCATED, OutAction.REGISTER_AND_MOVE): IN_CDB,
        Rule.NOT_HOLDER: GOOD,
        Rule.MOVE_TO_NO_KEY: CONFLICT,
        Rule.MOVE_TO_SELF: GOOD,
        Rule.MOVE_TO_UNREGISTERED: IN_CDB,
    },
    quirks=frozenset(
        {
            Quirk.ATTENTION_BEFORE_CONFLICT,
            Quirk.RELEASE_BY_UNREGISTERING_COUNTED,
            Quirk.ONLY_HOLDER_VERIFIED,
            Quirk.OWN_KEY_KEPT,
            Quirk.OWN_KEY_KEPT_UNDER_ANOTHER,
        }
    ),
    notices={
        Event.RELEASED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_RELEASED, SINGLE_TYPES),
        Event.HOLDER_UNREGISTERED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_RELEASED),
        Event.TAKEN_OVER: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_PREEMPTED),
        Event.RENEWED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_PREEMPTED),
        Event.REMOVED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_PREEMPTED),
    },
    access={
        **dict.fromkeys(MODE_SENSES, Access.AS_WRITE),
        "START STOP UNIT": Access.ALWAYS,
        "PREVENT ALLOW MEDIUM REMOVAL": Access.ALWAYS,
        "PERSISTENT RESERVE OUT, REGISTER AND MOVE": Access.AS_REGISTRANT,
    },
    not_imitated=(
        "REGISTER AND MOVE without a reservation ends the process: a crash",
        "REGISTER AND MOVE makes the reservation one of type 0, and moves all registrants ones: the state is corrupted",
        "WRITE SAME, UNMAP and FORMAT UNIT pass every reservation, and WRITE AND VERIFY and ORWRITE those that let"
        " others read: a fenced node could write",
        "PREEMPT stores reserved types: the state is corrupted",
        "a nexus that logs in again is not registered any more: its reservation would be lost",
        "an all registrants reservation keeps a holder that is gone: memory is corrupted",
    ),
)

SPDK = Personality(
    name="spdk",
    vendor="INTEL",
    product="Malloc disk",
    revision="0001",
    out_actions=NOTHING_REPLACED - {OutAction.PREEMPT_AND_ABORT, OutAction.REGISTER_AND_MOVE},
    compatible_handling=False,
    specify_initiator_ports=False,
    all_target_ports=False,
    persists=False,
    allow_commands=0,
    shortest_allocations={
        InAction.READ_KEYS: 8,
        InAction.READ_RESERVATION: 24,
        InAction.REPORT_CAPABILITIES: 8,
        InAction.READ_FULL_STATUS: 8,
    },
    answers={
        Rule.INFORMATION_LOST: TARGET_FAILURE,
        Rule.ALLOCATION_SHORT: IN_CDB,
        (Rule.SPEC_I_PT_NOT_ALLOWED, OutAction.RESERVE): IN_CDB,
        Rule.SPEC_I_PT_UNSUPPORTED: IN_CDB,
        (Rule.ALL_TG_PT_NOT_ALLOWED, OutAction.RESERVE): IN_CDB,
        Rule.ALL_TG_PT_UNSUPPORTED: IN_CDB,
        (Rule.APTPL_NOT_ALLOWED, OutAction.RESERVE): IN_CDB,
        Rule.APTPL_UNSUPPORTED: IN_CDB,
        (Rule.NOT_REGISTERED, OutAction.RELEASE): NOT_READY,
        (Rule.NOT_REGISTERED, OutAction.CLEAR): NOT_READY,
        (Rule.KEY_MISMATCH, OutAction.RELEASE): IN_CDB,
        Rule.RELEASE_MISMATCH: IN_CDB,
        Rule.KEY_UNKNOWN: GOOD,
        Rule.ZERO_KEY_UNRESERVED: GOOD,
        Rule.ZERO_KEY: IN_CDB,
    },
    quirks=frozenset(
        {
            Quirk.SPC2_HOLDER_EXEMPT,
            Quirk.KEYS_RECOUNTED,
            Quirk.STATUS_RECOUNTED,
            Quirk.PORT_NUMBER_SWAPPED,
            Quirk.NOTHING_NOT_COUNTED,
            Quirk.EACH_REMOVAL_COUNTED,
            Quirk.RELEASE_BY_RESERVATION_KEY,
            Quirk.ALL_REGISTRANTS_KEPT,
        }
    ),
    notices=NOBODY,
    access={
        **dict.fromkeys((*MODE_SENSES, *MODE_SELECTS), Access.AS_REGISTRANT),
        **dict.fromkeys(("REQUEST SENSE", "REPORT LUNS"), Access.ALWAYS | Access.LOST),
        **dict.fromkeys(("START STOP UNIT", "GET LBA STATUS"), Access.ALWAYS),
        **dict.fromkeys(("READ CAPACITY(10)", "READ CAPACITY(16)"), Access.ALWAYS),
        **dict.fromkeys(
            (
                *("VERIFY(10)", "VERIFY(12)", "VERIFY(16)", "PRE-FETCH(10)", "PRE-FETCH(16)"),
                *("WRITE AND VERIFY(10)", "WRITE AND VERIFY(12)", "WRITE AND VERIFY(16)"),
                *("WRITE SAME(10)", "WRITE SAME(16)", "COMPARE AND WRITE", "ORWRITE(16)"),
                *("REPORT SUPPORTED OPERATION CODES", "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"),
                "PREVENT ALLOW MEDIUM REMOVAL",
            ),
            Access.HOLDER,
        ),
    },
    not_imitated=(
        "RELEASE(6) and RELEASE(10) of any nexus end another one's SPC-2 reservation: what it shuts out could write",
        "RESERVE and PREEMPT store reserved types, and type 0 fails an assertion: a crash",
        "service actions 10h to 1Fh are taken for 00h to 0Fh: what is not advertised would be carried out",
        "a nexus that logs in again is not registered any more, and its port is used after it was freed: a reservation"
        " would be lost and memory corrupted",
        "a holder that preempts its own key leaves other nexuses registered that have it: what is fenced could write",
        "PREEMPT of a holder by a nexus with the same key removes both and then conflicts: a refused command changes"
        " nothing here",
        "PREEMPT of an all registrants reservation into another type stores the key zero, which fails an assertion: a"
        " crash",
    ),
)

OPENFILER = Personality(
    name="openfiler",
    vendor="OPNFILER",
    product="VIRTUAL-DISK",
    revision="0",
    out_actions=frozenset(),
    in_actions=frozenset(),
    compatible_handling=False,
    specify_initiator_ports=False,
    all_target_ports=False,
    persists=False,
    allow_commands=0,
    answers={Rule.INFORMATION_LOST: TARGET_FAILURE},
    not_imitated=(
        "what is registered and reserved when a unit becomes this is enforced on, though no command shows it: a fenced"
        " node could write",
    ),
)

PERSONALITIES: Mapping[str, Personality] = {
    personality.name: personality for personality in (STRICT, LIO, COMSTAR, SCST, TGT, SPDK, OPENFILER)
}
