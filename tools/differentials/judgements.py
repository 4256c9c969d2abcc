"""Who is right where LIO and this target differ, kept by hand: a kind of difference -> the clause that decides it.

Names and values are patterns as of the shell. The first judgement that fits a difference is the one that counts, so
what is special stands before what is general. A difference that none fits is an error of the run: somebody has to
look at it and write its judgement, or mend the target.
"""

from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

from tools.differentials.compare import Kind

REFUSED = "RESERVATION CONFLICT"
ANY = ("*",)
IN = ("READ KEYS", "READ RESERVATION", "REPORT CAPABILITIES", "READ FULL STATUS")
RESERVE, RELEASE = ("RESERVE", "RESERVE with*"), ("RELEASE", "RELEASE with*")
PREEMPT = ("PREEMPT", "PREEMPT AND ABORT")
REGISTER = ("REGISTER", "REGISTER with*", "REGISTER AND IGNORE EXISTING KEY*")
ALONE = ("REGISTER", "REGISTER AND IGNORE EXISTING KEY")
EVERYWHERE = (
    "REGISTER with ALL_TG_PT",
    "REGISTER AND IGNORE EXISTING KEY with ALL_TG_PT",
    "REGISTER with SPEC_I_PT and*",
)
LISTING = ("REGISTER with SPEC_I_PT*",)
MOVE = ("REGISTER AND MOVE",)


class Right(Enum):
    """Who does what the standard says."""

    STRICT = "this target"
    EITHER = "either"


class Judgement(NamedTuple):
    """What is to be thought of a kind of difference.

    commands, aspect, ours, theirs   patterns of what a `Kind` has
    what                             what differs, as a statement about LIO
    """

    commands: tuple[str, ...]
    aspect: str
    ours: str
    theirs: str
    what: str

    def fits(self, kind: Kind) -> bool:
        """Tells whether it is about a kind."""
        patterns, found = self[1:4], kind[1:]
        named = any(fnmatchcase(kind.command, command) for command in self.commands)
        return named and all(map(fnmatchcase, found, patterns))


class Ruling(NamedTuple):
    """What the standard says to a difference.

    clause   that decides it
    right    who does what it says
    """

    judgement: Judgement
    clause: str
    right: Right = Right.STRICT


OTHER_PORT = "SPEC_I_PT registers through the first target port, not through that of the command"
TWO_REASONS = "of two reasons to refuse it tells the other one: it reads the CDB and the parameter list first"
NO_ACL = "a TransportID is refused of which it has no ACL: a strange or a differently written name, or one without ISID"
KEPT = "what was registered with ALL_TG_PT cannot go while its initiator holds through another port"
ALREADY = "ALL_TG_PT is ignored when the nexus is registered already"

RULINGS = (
    # What strangers may do
    Ruling(
        Judgement(
            (*RESERVE, *RELEASE, "CLEAR", *MOVE), "answer", REFUSED, "2/08/00", "not being registered is NOT READY"
        ),
        "SPC4r37 5.13.7",
    ),
    Ruling(Judgement((*RESERVE, *PREEMPT), "answer", REFUSED, "5/24/00", TWO_REASONS), "SAM5r21 5.3.3", Right.EITHER),
    Ruling(Judgement(RESERVE, "answer", REFUSED, "5/1A/00", TWO_REASONS), "SAM5r21 5.3.3", Right.EITHER),
    Ruling(Judgement(RESERVE, "answer", REFUSED, "5/26/00", TWO_REASONS), "SAM5r21 5.3.3", Right.EITHER),
    Ruling(Judgement(PREEMPT, "answer", "5/26/00", "5/24/00", TWO_REASONS), "SAM5r21 5.3.3", Right.EITHER),
    Ruling(Judgement(MOVE, "answer", REFUSED, "5/26/00", TWO_REASONS), "SPC4r37 5.13.8 table 70", Right.EITHER),
    Ruling(Judgement(MOVE, "answer", "5/24/00", "5/26/00", TWO_REASONS), "SPC4r37 5.13.8 table 70", Right.EITHER),
    Ruling(
        Judgement(("WRITE(10)", "READ(10)"), "answer", REFUSED, "GOOD", "another ISID is the same nexus: it writes"),
        "SPC4r37 5.13.1, RFC7143 4.4.2",
    ),
    # Parameter data
    Ruling(Judgement(IN, "answer", "GOOD", "5/24/00", "a short allocation length is an error"), "SPC4r37 4.2.5.6"),
    Ruling(Judgement(IN, "RLR_C", "1", "0", "there is no REPLACE LOST RESERVATION"), "SPC4r37 6.15.4", Right.EITHER),
    Ruling(
        Judgement(
            ("PERSISTENT RESERVE OUT, reserved",),
            "answer",
            "5/26/04",
            "5/24/00",
            "there is no REPLACE LOST RESERVATION",
        ),
        "SPC4r37 5.13.11.3",
        Right.EITHER,
    ),
    Ruling(
        Judgement(IN, "ALLOW_COMMANDS", "4", "1", "less is said of what reservations let through"),
        "SPC4r37 6.15.4",
        Right.EITHER,
    ),
    Ruling(
        Judgement(
            ("READ FULL STATUS",),
            "data: *",
            "*",
            "*",
            "descriptors that are cut are left out and not counted; registrations by ALL_TG_PT and by SPEC_I_PT have"
            " ALL_TG_PT without a port, or no ISID",
        ),
        "SPC4r37 6.15.5, 7.6.4.6",
    ),
    # Counting
    Ruling(Judgement(REGISTER, "PRGENERATION", "+1", "+0", "unregistering does not count"), "SPC4r37 6.15.2"),
    Ruling(Judgement(REGISTER, "PRGENERATION", "+1", "+several", "every registration counts"), "SPC4r37 6.15.2"),
    # Registering
    Ruling(
        Judgement(ALONE, "answer", "GOOD", "5/24/00", "what was registered with ALL_TG_PT cannot do without it"),
        "SPC4r37 6.16.3",
    ),
    Ruling(Judgement(REGISTER, "answer", "GOOD", REFUSED, KEPT), "SPC4r37 5.13.11.2.3"),
    Ruling(Judgement(REGISTER, "target ports", "*", "*", OTHER_PORT), "SPC4r37 6.16.3"),
    Ruling(Judgement(LISTING, "initiators", "*", "*", OTHER_PORT), "SPC4r37 6.16.3"),
    Ruling(Judgement(LISTING, "registrations", "new", "fewer new", OTHER_PORT), "SPC4r37 6.16.3"),
    Ruling(
        Judgement(LISTING, "registrations", "new", "more new", "an issuer that lists itself is registered twice"),
        "SPC4r37 5.13.7",
    ),
    Ruling(
        Judgement(LISTING, "answer", "5/1A/00", "5/26/00", "a list that is cut is INVALID FIELD"),
        "SPC4r37 6.16.3",
        Right.EITHER,
    ),
    Ruling(
        Judgement(LISTING, "answer", "5/26/00", "GOOD", "a list is taken with a port twice, registered or without NUL"),
        "SPC4r37 5.13.7 table 67, 7.6.4.6",
    ),
    Ruling(Judgement(LISTING, "answer", "GOOD", "5/26/00", NO_ACL), "SPC4r37 6.16.3, 7.6.4.6", Right.EITHER),
    Ruling(Judgement(LISTING, "answer", REFUSED, "5/26/00", NO_ACL), "SPC4r37 6.16.3", Right.EITHER),
    Ruling(Judgement(MOVE, "answer", "GOOD", "5/26/00", NO_ACL), "SPC4r37 5.13.8", Right.EITHER),
    Ruling(
        Judgement(
            EVERYWHERE, "registrations", "1 new, 1 changed", "2 new", "a nexus that ALL_TG_PT adds is there twice"
        ),
        "SPC4r37 6.16.3",
    ),
    Ruling(
        Judgement(EVERYWHERE, "answer", REFUSED, "GOOD", "ALL_TG_PT does not look at the keys of other ports"),
        "SPC4r37 6.16.3",
        Right.EITHER,
    ),
    Ruling(
        Judgement(EVERYWHERE, "registrations", "new", "more new", "a nexus that ALL_TG_PT adds is there twice"),
        "SPC4r37 6.16.3",
    ),
    Ruling(Judgement(EVERYWHERE, "registrations", "*", "*", ALREADY), "SPC4r37 6.16.3"),
    # Reserving, releasing, clearing
    Ruling(
        Judgement((*RESERVE, *PREEMPT), "answer", "5/24/00", "5/26/00", "a wrong scope is one of the list"),
        "SPC4r37 6.15.3.3",
    ),
    Ruling(Judgement(RELEASE, "answer", "5/26/04", REFUSED, "a wrong scope or type conflicts"), "SPC4r37 5.13.11.2.2"),
    Ruling(Judgement(RELEASE, "answer", REFUSED, "GOOD", "only a holder's key is looked at"), "SPC4r37 5.13.11.2.2"),
    Ruling(Judgement(("CLEAR",), "PTPL_A", "1", "0", "CLEAR ends APTPL"), "SPC4r37 5.13.5.1"),
    # Preempting
    Ruling(
        Judgement(PREEMPT, "answer", "GOOD", "5/24/00", "a reserved type matters where none is used"),
        "SPC4r37 5.13.11.2.4 table 72",
    ),
    Ruling(
        Judgement(PREEMPT, "answer", "GOOD", "5/26/00", "a scope matters where none is used"),
        "SPC4r37 5.13.11.2.4 table 72",
    ),
    Ruling(
        Judgement(PREEMPT, "answer", REFUSED, "5/26/00", "the key zero is wrong without a reservation, too"),
        "SPC4r37 5.13.11.2.5",
        Right.EITHER,
    ),
    Ruling(
        Judgement(PREEMPT, "registrations", "*gone*", "*", "of all registrants, who preempts the own key stays"),
        "SPC4r37 5.13.11.2.4 table 72",
    ),
    Ruling(
        Judgement(
            PREEMPT,
            "reservation",
            "*",
            "changed*",
            "of all registrants, who preempts its creator takes the reservation over",
        ),
        "SPC4r37 5.13.11.2.4 table 72",
    ),
    Ruling(
        Judgement(PREEMPT, "told to *", "*", "*", "unit attentions go to any session of the initiator's name"),
        "SAM5r21 5.14",
    ),
    # Commands against reservations
    Ruling(
        Judgement(("MODE SENSE*",), "answer", REFUSED, "GOOD", "registered nexuses may read mode pages"),
        "SPC4r37 5.13.1 table 65",
    ),
    Ruling(
        Judgement(("READ CAPACITY*",), "answer", "GOOD", REFUSED, "the capacity is kept from those shut out"),
        "SBC3r36 4.17",
    ),
    Ruling(
        Judgement(("REPORT LUNS", "REQUEST SENSE"), "answer", "GOOD", REFUSED, "RESERVE excludes these, too"),
        "SPC2r20 5.5.1",
    ),
    Ruling(
        Judgement(("SYNCHRONIZE CACHE*", "VERIFY*"), "answer", "*", "*", "the direction of data decides"),
        "SBC3r36 4.17",
    ),
    Ruling(
        Judgement(
            ("RESERVE(6)", "RESERVE(10)", "RELEASE(6)"),
            "answer",
            "GOOD",
            REFUSED,
            "of registered nexuses only the maker of the reservation is exempt",
        ),
        "SPC4r37 5.13.3",
    ),
    Ruling(Judgement(("RESERVE(10)",), "answer", "5/24/00", "GOOD", "a third party is passed over"), "SPC2r20 7.21"),
    Ruling(
        Judgement(ANY, "answer", f"*{REFUSED}", f"6/2A/*{REFUSED}", "unit attentions come before conflicts"),
        "SAM5r21 5.3.3",
        Right.EITHER,
    ),
    Ruling(
        Judgement(ANY, "answer", "6/2A/*", "6/2A/*", "the first unit attention that is reported takes the rest along"),
        "SAM5r21 5.14",
    ),
)

# What the personality of LIO does not do as LIO; the reasons are those of `Personality.not_imitated`.
FENCED = "a node that was fenced could write"
UNCOVERED = (
    Judgement(("WRITE(10)", "READ(10)"), "answer", REFUSED, "GOOD", f"another ISID counts as the same nexus: {FENCED}"),
    Judgement(("SYNCHRONIZE CACHE*", "VERIFY*"), "answer", "*", "*", f"the direction of data decides: {FENCED}"),
    Judgement((*RESERVE, *PREEMPT), "answer", "*", "5/24/00", f"{TWO_REASONS}; the order of checks is ours"),
    Judgement(RESERVE, "answer", "*", "5/1A/00", f"{TWO_REASONS}; the order of checks is ours"),
    Judgement(RESERVE, "answer", "*", "5/26/00", f"{TWO_REASONS}; the order of checks is ours"),
    Judgement(REGISTER, "answer", "GOOD", REFUSED, f"{KEPT}: the flag ALL_TG_PT is not remembered"),
    Judgement(
        ("RESERVE(6)",), "answer", REFUSED, "GOOD", "another counts as the maker of a reservation when that left"
    ),
    Judgement(MOVE, "answer", "5/24/00", "5/26/00", f"{TWO_REASONS}; the order of checks is ours"),
    Judgement(MOVE, "answer", REFUSED, "5/26/00", f"{TWO_REASONS}; the order of checks is ours"),
    Judgement(ALONE, "answer", "GOOD", "5/24/00", "the flag ALL_TG_PT is not remembered"),
    Judgement(LISTING, "answer", "*", "5/26/00", f"{NO_ACL}; a logical unit knows no ACLs"),
    Judgement(MOVE, "answer", "GOOD", "5/26/00", f"{NO_ACL}; a logical unit knows no ACLs"),
    Judgement(LISTING, "answer", "5/26/00", "GOOD", "a list with a mistake is taken; hosts rely on nothing of that"),
    Judgement(LISTING, "registrations", "new", "more new", "one nexus is registered twice: there is no such state"),
    Judgement(LISTING, "registrations", "new", "fewer new", f"{OTHER_PORT}: the wrong node would be fenced"),
    Judgement(LISTING, "initiators", "*", "*", f"{OTHER_PORT}: the wrong node would be fenced"),
    Judgement(PREEMPT, "reservation", "*", "changed*", "another counts as the maker of a reservation when that left"),
    Judgement(REGISTER, "target ports", "*", "*", f"{OTHER_PORT}: the wrong node would be fenced"),
    Judgement(
        EVERYWHERE,
        "registrations",
        "1 new, 1 changed",
        "2 new",
        "one nexus is registered twice: there is no such state",
    ),
    Judgement(EVERYWHERE, "registrations", "new", "more new", "one nexus is registered twice: there is no such state"),
    Judgement(
        EVERYWHERE, "registrations", "1 gone", "2 gone", "a holder's other ports go: ALL_TG_PT is not remembered"
    ),
    Judgement(EVERYWHERE, "answer", REFUSED, "GOOD", "ALL_TG_PT does not look at the keys of other ports"),
    Judgement(PREEMPT, "told to *", "*", "*", "unit attentions go to any session of the initiator's name"),
    Judgement(ANY, "answer", "6/2A/*", "6/2A/*", "unit attentions that came together are lost: hosts miss some"),
    Judgement(("READ FULL STATUS",), "data: *", "*", "*", "ports that SPEC_I_PT and ALL_TG_PT add have no ISID"),
    Judgement(("RESERVE(10)",), "answer", "5/24/00", "GOOD", "a third party is passed over: who asked holds instead"),
)


def ruling(kind: Kind) -> Ruling | None:
    """Returns what decides a difference of the strict target, None when nothing is known of it."""
    return next((each for each in RULINGS if each.judgement.fits(kind)), None)


def uncovered(kind: Kind) -> Judgement | None:
    """Returns why the personality differs from LIO in this, None when it should not."""
    return next((each for each in UNCOVERED if each.fits(kind)), None)
