"""What targets answer differently about reservations, as data: `strict` is the standard, the others are real ones.

A personality never decides anything: it is a table from rules to answers, a set of quirks, whom it tells of what, and
what the target says of itself. `transitions` and the command handlers ask it at the places that the rules, quirks and
events name. Nothing depends on its name. The real targets are in `personalities`.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import NamedTuple

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.reservations.rules import Answer, Rule, refusal
from iscsi_target.scsi.status import Status, StatusError
from iscsi_target.wire.layout import FieldPointer


class OutAction(IntEnum):
    """A service action of PERSISTENT RESERVE OUT.

    Source: SPC4r37 6.16.2
    """

    REGISTER = 0
    RESERVE = 1
    RELEASE = 2
    CLEAR = 3
    PREEMPT = 4
    PREEMPT_AND_ABORT = 5
    REGISTER_AND_IGNORE_EXISTING_KEY = 6
    REGISTER_AND_MOVE = 7
    REPLACE_LOST_RESERVATION = 8

    def __str__(self) -> str:
        return self.name.replace("_", " ")


class InAction(IntEnum):
    """A service action of PERSISTENT RESERVE IN.

    Source: SPC4r37 6.15.1
    """

    READ_KEYS = 0
    READ_RESERVATION = 1
    REPORT_CAPABILITIES = 2
    READ_FULL_STATUS = 3

    def __str__(self) -> str:
        return self.name.replace("_", " ")


class ReservationType(IntEnum):
    """A type of persistent reservation.

    Source: SPC4r37 6.15.3.4
    """

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8

    def __str__(self) -> str:
        words = "Exclusive Access" if self.exclusive_access else "Write Exclusive"
        if self.registrants_only:
            words += ", registrants only"
        elif self.all_registrants:
            words += ", all registrants"
        return words

    @property
    def registrants_only(self) -> bool:
        """True for the two types that admit registrants and have one holder."""
        return self in (self.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, self.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY)

    @property
    def all_registrants(self) -> bool:
        """True for the two types that every registrant holds."""
        return self in (self.WRITE_EXCLUSIVE_ALL_REGISTRANTS, self.EXCLUSIVE_ACCESS_ALL_REGISTRANTS)

    @property
    def exclusive_access(self) -> bool:
        """True for the three types that exclude readers too."""
        return self in (
            self.EXCLUSIVE_ACCESS,
            self.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
            self.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
        )


REGISTRANTS_ONLY_TYPES = frozenset(kind for kind in ReservationType if kind.registrants_only)
ALL_REGISTRANTS_TYPES = frozenset(kind for kind in ReservationType if kind.all_registrants)
SHARED_TYPES = REGISTRANTS_ONLY_TYPES | ALL_REGISTRANTS_TYPES
SINGLE_TYPES = frozenset(ReservationType) - SHARED_TYPES


class Quirk(Enum):
    """Something that a target does differently beyond its answers; the value says it, completing "this target ..."."""

    # A command against a reservation
    ATTENTION_BEFORE_CONFLICT = "reports any unit attention before a reservation conflict"
    SPC2_HOLDER_EXEMPT = "lets the nexus that reserved the unit with RESERVE use persistent reservations"

    EXEMPTS_CREATOR = (
        "takes RESERVE and RELEASE in, beside a persistent reservation, only from the nexus that made that"
    )

    # What PERSISTENT RESERVE IN shows
    NOTHING_WHEN_SHORT = "returns no data at all when the allocation length is less than 8"
    KEYS_WHOLE = "returns whole keys only when READ KEYS is cut"
    KEYS_RECOUNTED = "returns whole keys only when READ KEYS is cut, and ADDITIONAL LENGTH counts these"
    STATUS_RECOUNTED = "returns whole descriptors only when READ FULL STATUS is cut, and ADDITIONAL LENGTH counts these"
    STATUS_ROOM_OVERRATED = "takes descriptors of READ FULL STATUS for whole when there is room for their TransportID"
    STATUS_LAST_DROPPED = "returns only descriptors that end before the allocation length of READ FULL STATUS"
    ALL_PORTS_BY_BIT = "shows a registration that is the same through all of several target ports with ALL_TG_PT"
    ALL_PORTS_ONCE = "lists a registration that is the same through all of several target ports once"
    DEVICE_TRANSPORT_IDS = (
        "names initiators without ISID and NUL in READ FULL STATUS, padded to a multiple of eight bytes"
    )
    PORT_NUMBER_SWAPPED = "has the bytes of RELATIVE TARGET PORT IDENTIFIER the wrong way round in READ FULL STATUS"

    # PRGENERATION
    NOTHING_NOT_COUNTED = "does not count a REGISTER that neither registers nor unregisters"
    UNREGISTERING_NOT_COUNTED = "does not count a REGISTER that unregisters"
    EACH_REGISTRATION_COUNTED = "counts every registration that a REGISTER makes"
    EACH_REMOVAL_COUNTED = "counts every registration that CLEAR and PREEMPT remove, and PREEMPT itself once more"
    RELEASE_BY_UNREGISTERING_COUNTED = "counts a REGISTER twice that releases the reservation by unregistering"

    # Registering
    LISTED_SKIPPED = "passes over listed initiator ports that are registered already"
    LISTED_OVERWRITTEN = "gives the new key to listed initiator ports that are registered already"
    TRAILING_BYTES_IGNORED = "ignores what follows the TransportIDs of SPEC_I_PT"
    REGISTERED_ALONE = "ignores ALL_TG_PT of a nexus that is registered already or that unregisters"

    # Releasing
    SCOPE_ALWAYS_CHECKED = "refuses every scope but the logical unit with RELEASE and REGISTER AND MOVE too"
    ONLY_HOLDER_VERIFIED = "looks at the RESERVATION KEY of RELEASE only when the nexus holds the reservation"
    RELEASE_BY_RESERVATION_KEY = (
        "compares the RESERVATION KEY of RELEASE with the key that the reservation was made with"
    )
    ALL_REGISTRANTS_KEPT = "does not release an all registrants reservation while others are registered"

    APTPL_ENDED_BY_CLEAR = "lets nothing outlive a loss of power any more after CLEAR"

    # Preempting
    PREEMPT_TYPE_CHECKED = "refuses a reserved type with PREEMPT even when the type does not matter"
    OWN_KEY_KEPT = "keeps a nexus registered that preempts its own key while no single nexus holds a reservation"
    OWN_KEY_KEPT_BY_HOLDERS = (
        "keeps a nexus registered that preempts its own key while all registrants hold the reservation"
    )
    OWN_KEY_KEPT_UNDER_ANOTHER = (
        "keeps a nexus registered that preempts its own key while another one holds the reservation"
    )
    CREATOR_HOLDS = "takes over an all registrants reservation with the key of the nexus that made it"
    EVERYBODY_ABORTED = "aborts the tasks of every nexus with PREEMPT AND ABORT"

    # Moving
    MOVED_BETWEEN_PORTS = "lets a holder move its reservation to its own initiator port through another target port"


class Event(Enum):
    """Something that nexuses are told of by a unit attention; the value completes "when ..."."""

    RELEASED = "RELEASE releases the reservation"
    HOLDER_UNREGISTERED = "the reservation is released because its holder unregisters"
    CLEARED = "CLEAR removes all registrations"
    TAKEN_OVER = "PREEMPT takes the reservation over"
    RENEWED = "the holder preempts its own key"
    REMOVED = "PREEMPT removes registrations and the reservation stays"
    TYPE_CHANGED = "PREEMPT changes the type of the reservation"


class Audience(Enum):
    """Whom an event is told to."""

    NOBODY = "nobody"
    CONCERNED = "those that the standard names"
    OTHERS = "every other nexus, registered or not"
    EVERYBODY = "every nexus, registered or not"


class Notice(NamedTuple):
    """What is told of an event.

    types   of the reservation before the event; nothing is told with others. None: told without one, too
    """

    audience: Audience
    code: AttentionCode
    types: frozenset[ReservationType] | None = None


# Source: SPC4r37 5.13.11.2
NOTICES: Mapping[Event, Notice] = {
    Event.RELEASED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_RELEASED, SHARED_TYPES),
    Event.HOLDER_UNREGISTERED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_RELEASED, REGISTRANTS_ONLY_TYPES),
    Event.CLEARED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_PREEMPTED),
    Event.TAKEN_OVER: Notice(Audience.CONCERNED, AttentionCode.REGISTRATIONS_PREEMPTED),
    Event.RENEWED: Notice(Audience.CONCERNED, AttentionCode.REGISTRATIONS_PREEMPTED),
    Event.REMOVED: Notice(Audience.CONCERNED, AttentionCode.REGISTRATIONS_PREEMPTED),
    Event.TYPE_CHANGED: Notice(Audience.CONCERNED, AttentionCode.RESERVATIONS_RELEASED),
}


class Personality(NamedTuple):
    """How a target treats reservations.

    name                        as in the configuration
    vendor, product, revision   for INQUIRY, unless the configuration says otherwise; product None: the unit's name
    out_actions, in_actions     the service actions that it has; none at all: no persistent reservations
    compatible_handling         CRH of REPORT CAPABILITIES, and what it stands for
    specify_initiator_ports     SIP_C
    all_target_ports            ATP_C
    persists                    PTPL_C
    allow_commands              ALLOW COMMANDS; 4: everything that the notes of the table leave open is allowed
    shortest_allocations        the least allocation length, where one that is less than the data may be refused
    notices                     an event -> what is told of it, where that is not what the standard says
    answers                     a rule, or a rule for one service action -> the answer instead of the rule's own
    quirks                      what it does differently
    access                      name of a command -> its columns instead of the table's own
    not_imitated                what the target is known to do and this imitation does not, with the reason
    Source: SPC4r37 5.13, 6.15.4
    """

    name: str
    vendor: str
    product: str | None
    revision: str
    out_actions: frozenset[OutAction] = frozenset(OutAction)
    in_actions: frozenset[InAction] = frozenset(InAction)
    compatible_handling: bool = True
    specify_initiator_ports: bool = True
    all_target_ports: bool = True
    persists: bool = True
    allow_commands: int = 4
    shortest_allocations: Mapping[InAction, int] = MappingProxyType({})
    answers: Mapping[Rule | tuple[Rule, OutAction | InAction], Answer] = MappingProxyType({})
    quirks: frozenset[Quirk] = frozenset()
    notices: Mapping[Event, Notice] = MappingProxyType({})
    access: Mapping[str, Access] = MappingProxyType({})
    not_imitated: tuple[str, ...] = ()

    @property
    def replaces_lost(self) -> bool:
        """RLR_C: True when it has REPLACE LOST RESERVATION.

        Source: SPC4r37 6.15.4
        """
        return OutAction.REPLACE_LOST_RESERVATION in self.out_actions

    def answer(self, rule: Rule, action: OutAction | InAction | None = None) -> Answer:
        """Returns what this target answers when a rule applies to a service action."""
        if action is not None and (rule, action) in self.answers:
            return self.answers[rule, action]
        return self.answers.get(rule, rule.answer)

    def has(self, quirk: Quirk) -> bool:
        """Returns True for a target with a quirk."""
        return quirk in self.quirks

    def notice(self, event: Event) -> Notice:
        """Returns what this target tells of an event."""
        return self.notices.get(event, NOTICES[event])

    def refusal(
        self, rule: Rule, action: OutAction | InAction | None = None, field: FieldPointer | None = None
    ) -> StatusError:
        """Returns what a handler raises because of a rule.

        field   the field in error, of the CDB or of the parameter list
        """
        return refusal(rule, self.answer(rule, action), field)

    def mind(self, rule: Rule, action: OutAction | InAction | None = None, field: FieldPointer | None = None) -> None:
        """Raises as a handler does because of a rule, unless this target does not mind."""
        if self.answer(rule, action).status is not Status.GOOD:
            raise self.refusal(rule, action, field)


STRICT = Personality("strict", "ISCSITGT", "Virtual disk", "0001")
