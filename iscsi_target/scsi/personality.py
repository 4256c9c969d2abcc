"""What targets answer differently about reservations, as data: `strict` is the standard, the others are real ones.

A personality never decides anything: it is a table from rules to answers, a set of quirks, and what the target says of
itself. `reservations` and the command handlers ask it at the places that the rules name. Nothing depends on its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.rules import Answer, Rule, refusal
from iscsi_target.scsi.status import StatusError
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


class Quirk(Enum):
    """Something that a target does differently beyond its answers; the value says it, completing "this target ..."."""

    ATTENTION_BEFORE_CONFLICT = "reports any unit attention before a reservation conflict"


@dataclass(frozen=True, slots=True)
class Personality:
    """How a target treats reservations.

    name                        as in the configuration
    vendor, product, revision   for INQUIRY, unless the configuration says otherwise
    out_actions, in_actions     the service actions that it has; none at all: no persistent reservations
    compatible_handling         CRH of REPORT CAPABILITIES, and what it stands for
    specify_initiator_ports     SIP_C
    all_target_ports            ATP_C
    persists                    PTPL_C
    answers                     a rule, or a rule for one service action -> the answer instead of the rule's own
    quirks                      what it does differently
    access                      name of a command -> its columns instead of the table's own
    not_imitated                what the target is known to do and this imitation does not, with the reason
    Source: SPC4r37 5.13, 6.15.4
    """

    name: str
    vendor: str
    product: str
    revision: str
    out_actions: frozenset[OutAction] = frozenset(OutAction)
    in_actions: frozenset[InAction] = frozenset(InAction)
    compatible_handling: bool = True
    specify_initiator_ports: bool = True
    all_target_ports: bool = True
    persists: bool = True
    answers: Mapping[Rule | tuple[Rule, OutAction | InAction], Answer] = field(default_factory=dict)
    quirks: frozenset[Quirk] = frozenset()
    access: Mapping[str, Access] = field(default_factory=dict)
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

    def refusal(
        self, rule: Rule, action: OutAction | InAction | None = None, field: FieldPointer | None = None
    ) -> StatusError:
        """Returns what a handler raises because of a rule.

        field   the field in error, of the CDB or of the parameter list
        """
        return refusal(rule, self.answer(rule, action), field)


STRICT = Personality("strict", "ISCSITGT", "Virtual disk", "0001")

PERSONALITIES: Mapping[str, Personality] = {personality.name: personality for personality in (STRICT,)}
