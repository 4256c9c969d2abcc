"""Prints what the personalities do differently, as Markdown tables from their data, so that they cannot fall behind it.

A row stands only where some personality differs from `strict`, and a cell is empty where one does not.
"""

import sys
from collections.abc import Callable, Iterable, Sequence

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import (
    STRICT,
    Audience,
    Event,
    InAction,
    Notice,
    OutAction,
    Personality,
    Quirk,
)
from iscsi_target.scsi.reservations.rules import Rule

USAGE = """\
usage: tools/personalities

Prints what each personality answers and does that strict does not, as Markdown."""

COLUMNS = (
    Access.SPC2,
    Access.WRITE_EXCLUSIVE,
    Access.EXCLUSIVE_ACCESS,
    Access.REGISTERED,
    Access.UNREGISTERED_WRITE_EXCLUSIVE,
    Access.UNREGISTERED_EXCLUSIVE_ACCESS,
    Access.REGISTRANT,
    Access.REGISTERED_WRITE_EXCLUSIVE,
    Access.LOST,
)
Cells = Sequence[str]


def table(head: Cells, rows: Iterable[Cells]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in lines)


def compared(what: str, rows: Iterable[tuple[str, Callable[[Personality], str]]]) -> str:
    """Returns a table with a column for strict and one for each personality; what all have in common is left out."""
    lines = []
    for name, say in rows:
        said = {personality.name: say(personality) for personality in PERSONALITIES.values()}
        if len(set(said.values())) > 1:
            lines.append(
                [name, said[STRICT.name], *("" if s == said[STRICT.name] else s for s in list(said.values())[1:])]
            )
    return table([what, *PERSONALITIES], lines)


def names() -> str:
    """Returns what each is called in INQUIRY data."""
    return compared(
        "INQUIRY",
        [
            ("vendor", lambda one: one.vendor),
            ("product", lambda one: one.product or "(the unit's name)"),
            ("revision", lambda one: one.revision),
        ],
    )


def capabilities() -> str:
    """Returns what each says of itself, and which service actions it has."""
    actions: list[OutAction | InAction] = [*InAction, *OutAction]

    def has(action: OutAction | InAction) -> Callable[[Personality], str]:
        return lambda one: _yes(action in (one.in_actions if isinstance(action, InAction) else one.out_actions))

    return compared(
        "Capability or service action",
        [
            ("CRH", lambda one: _yes(one.compatible_handling)),
            ("SIP_C", lambda one: _yes(one.specify_initiator_ports)),
            ("ATP_C", lambda one: _yes(one.all_target_ports)),
            ("PTPL_C", lambda one: _yes(one.persists)),
            ("ALLOW COMMANDS", lambda one: str(one.allow_commands)),
            *((f"{action}, least allocation length", _shortest(action)) for action in InAction),
            *((str(action), has(action)) for action in actions),
        ],
    )


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _shortest(action: InAction) -> Callable[[Personality], str]:
    return lambda one: str(one.shortest_allocations.get(action, 0))


def answers() -> str:
    """Returns every rule, or rule for one service action, that some personality answers differently."""
    keys = {key: None for one in PERSONALITIES.values() for key in one.answers}
    order = list(Rule)

    def position(key: Rule | tuple[Rule, OutAction | InAction]) -> tuple[int, bool, str]:
        rule, action = (key, "") if isinstance(key, Rule) else (key[0], str(key[1]))
        return order.index(rule), bool(action), action

    def row(key: Rule | tuple[Rule, OutAction | InAction]) -> tuple[str, Callable[[Personality], str]]:
        if isinstance(key, Rule):
            return f"{key.text} ({key.clause})", lambda one: str(one.answer(key))
        rule, action = key
        return f"{rule.text} ({rule.clause}), with {action}", lambda one: str(one.answer(rule, action))

    return compared("When", [row(key) for key in sorted(keys, key=position)])


def notices() -> str:
    """Returns who is told of what by unit attentions."""
    return compared("When", [(event.value, _told(event)) for event in Event])


def _told(event: Event) -> Callable[[Personality], str]:
    def say(one: Personality) -> str:
        notice: Notice = one.notice(event)
        if notice.audience is Audience.NOBODY:
            return "nobody"
        types = "" if notice.types is None else f", types {', '.join(str(int(kind)) for kind in sorted(notice.types))}"
        return f"{notice.code >> 8:02X}/{notice.code & 0xFF:02X} to {notice.audience.value}{types}"

    return say


def quirks() -> str:
    """Returns who does what else."""
    return compared("This target ...", [(quirk.value, _has(quirk)) for quirk in Quirk])


def _has(quirk: Quirk) -> Callable[[Personality], str]:
    return lambda one: "yes" if one.has(quirk) else ""


def access() -> str:
    """Returns the commands that are granted something else, and what."""
    return compared("Command", [(row.name, _granted(row.name, row.access)) for row in TABLE])


def _granted(name: str, own: Access) -> Callable[[Personality], str]:
    def say(one: Personality) -> str:
        granted = one.access.get(name, own)
        return " ".join(str(flag.name) for flag in COLUMNS if flag in granted) or "HOLDER"

    return say


def not_imitated() -> str:
    """Returns what is known of the targets and not imitated, with the reasons."""
    return "\n\n".join(
        f"`{one.name}`\n\n" + "\n".join(f"- {reason}" for reason in one.not_imitated)
        for one in PERSONALITIES.values()
        if one.not_imitated
    )


def document() -> str:
    """Returns all tables under their headings."""
    sections = (
        ("Names", names),
        ("Capabilities and service actions", capabilities),
        ("Answers", answers),
        ("Unit attentions", notices),
        ("Other behaviour", quirks),
        ("Where commands are processed although another nexus holds a reservation", access),
        ("What is not imitated, and why", not_imitated),
    )
    return "\n\n".join(f"## {heading}\n\n{content()}" for heading, content in sections)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/personalities` and returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and not {"-h", "--help"} & set(given):
        print(USAGE, file=sys.stderr)
        return 2
    print(USAGE if given else document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
