"""Makes a rule of a line that a person has written:

    rule      = "on" KIND [ "where" CONDITION { "," CONDITION } ] ":" ACTION
    KIND      = a name of `kinds.KINDS`; blanks, hyphens and underscores are alike, as is case
    CONDITION = KEY "=" VALUE; a VALUE with a comma is put in double quotes
    NUMBER    = 42, 0x2a or 2ah; SPAN = NUMBER or NUMBER..NUMBER; TIME = 200ms, 2s or 1min

`guide` lists keys and actions for a person. What is wrong is a `RuleError`, which says where, what and what to do.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping

from iscsi_target.faults import acting
from iscsi_target.faults.kinds import KINDS, Kind, number_fields
from iscsi_target.faults.reading import RuleError, count, key_of, like, number, span, unquoted
from iscsi_target.faults.rules import (
    UNLIMITED,
    CdbFieldIs,
    CidIs,
    CommandIs,
    Condition,
    HeaderFieldIs,
    InitiatorIs,
    LunIs,
    PortalGroupIs,
    Rule,
    Schedule,
    TargetIs,
)
from iscsi_target.iscsi.requests import DataOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.table import TABLE

MAX_RULE_CHARACTERS = 1000
MAX_COUNT = 1 << 32

_RULE = re.compile(
    r'\s*on\s+(?P<kind>"[^"]*"|[\w \t-]+?)(?:\s+where\s+(?P<where>(?:"[^"]*"|[^":]|:(?!\s|$))+))?\s*:\s*(?P<action>.*)',
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r'\s*(?P<key>[\w.-]+)\s*=\s*(?P<value>"[^"]*"|[^",]*?)\s*(?:,|$)')
_OF_COMMANDS = frozenset({ScsiCommand, DataOut, ScsiResponse, DataIn, ReadyToTransfer})
_BY_NAME: Mapping[str, Command] = {like(row.name): row for row in TABLE}
_CODES: Mapping[str, int] = {like(row.name.split(",")[0]): row.operation_code for row in TABLE if "," in row.name}
_SCHEDULE = ("nth", "every", "times", "probability", "seed")


def parse(text: str) -> Rule:
    """Makes a rule of its text.

    raises    RuleError
    """
    if len(text) > MAX_RULE_CHARACTERS:
        raise RuleError("the rule", f"has more than {MAX_RULE_CHARACTERS} characters", remedy="make several of it")
    found = _RULE.fullmatch(text)
    if found is None:
        example = 'write it like "on scsi-command where opcode=WRITE(10), nth=3: delay 2s"'
        raise RuleError(repr(text), "is not on KIND [where CONDITION, ...]: ACTION", remedy=example)
    kind = _kind(found["kind"])
    given = dict(_conditions(found["where"] or ""))
    schedule = _schedule({key: given.pop(key) for key in _SCHEDULE if key in given})
    conditions = tuple(_CONDITIONS[_family(key)](key, value, kind) for key, value in given.items())
    _check_fields(conditions)
    return Rule(" ".join(text.split()), kind, conditions, schedule, acting.action(found["action"], kind))


def _kind(text: str) -> Kind:
    name = key_of(unquoted(text))
    name = {"ready-to-transfer": "r2t", "all": "any"}.get(name, name)
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"the kinds are {', '.join(KINDS)}"
        raise RuleError(repr(text), "is no kind of PDU", remedy=remedy)
    return KINDS[name]


def _conditions(text: str) -> Iterable[tuple[str, str]]:
    """Yields keys and values; no key twice."""
    position, seen = 0, set()
    while text[position:].strip():
        found = _CONDITION.match(text, position)
        if found is None or not unquoted(found["value"]):
            remedy = "write KEY=VALUE, with commas between them, and a value with a comma in double quotes"
            raise RuleError(repr(text[position:].strip()), "does not begin with a condition", remedy=remedy)
        key = found["key"].lower()
        if _family(key) not in _CONDITIONS and key not in _SCHEDULE:
            known = [*_CONDITIONS, *_SCHEDULE]
            close = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known)}"
            raise RuleError(repr(found["key"]), "is no key of a condition", remedy=remedy)
        if key in seen:
            raise RuleError(f"{key}=", "comes twice", remedy="drop one of them, or write a span such as 0..7")
        seen.add(key)
        position = found.end()
        yield key, unquoted(found["value"])


def _family(key: str) -> str:
    """Returns the key, or for one with a field only what stands before the point, and the point."""
    return key.partition(".")[0] + "." if "." in key else key


# Conditions: key, value and kind -> condition


def _initiator(key: str, value: str, kind: Kind) -> Condition:
    return InitiatorIs(value.casefold())


def _target(key: str, value: str, kind: Kind) -> Condition:
    return TargetIs(value.casefold())


def _portal_group(key: str, value: str, kind: Kind) -> Condition:
    return PortalGroupIs(span(key, value))


def _cid(key: str, value: str, kind: Kind) -> Condition:
    return CidIs(span(key, value))


def _lun(key: str, value: str, kind: Kind) -> Condition:
    return LunIs(span(key, value))


def _opcode(key: str, value: str, kind: Kind) -> Condition:
    _check_of_command(key, kind)
    name = like(value)
    if name in _CODES:
        return CommandIs(_CODES[name])
    if name in _BY_NAME:
        return CommandIs(_BY_NAME[name].operation_code, _BY_NAME[name].service_action)
    try:
        code = number(key, value)
    except RuleError:
        close = difflib.get_close_matches(name, [*_CODES, *_BY_NAME], n=1)
        named = {like(row.name): row.name for row in TABLE}
        remedy = f"did you mean {named.get(close[0], close[0])!r}?" if close else "write WRITE(10), or 0x2a"
        raise RuleError(f"opcode={value}", "names no command", remedy=remedy) from None
    if code > 0xFF:
        raise RuleError(f"opcode={value}", "is no operation code", remedy="write one of 0 to 0xff")
    return CommandIs(code)


def _service_action(key: str, value: str, kind: Kind) -> Condition:
    _check_of_command(key, kind)
    return CdbFieldIs("service_action", span(key, value))


def _cdb(key: str, value: str, kind: Kind) -> Condition:
    _check_of_command(key, kind)
    return CdbFieldIs(key.partition(".")[2], span(key, value))


def _pdu(key: str, value: str, kind: Kind) -> Condition:
    field = key.partition(".")[2]
    known = {name for layout in kind.layouts for name in number_fields(layout)}
    if field not in known:
        raise RuleError(f"{key}=", f"is no number in the header of {kind.name}", remedy=_near(field, known))
    return HeaderFieldIs(field, span(key, value))


_CONDITIONS: Mapping[str, Callable[[str, str, Kind], Condition]] = {
    "initiator": _initiator,
    "target": _target,
    "portal_group": _portal_group,
    "cid": _cid,
    "lun": _lun,
    "opcode": _opcode,
    "service_action": _service_action,
    "cdb.": _cdb,
    "pdu.": _pdu,
}


def _check_of_command(key: str, kind: Kind) -> None:
    if not _OF_COMMANDS.intersection(kind.layouts):
        remedy = "use it with scsi-command, data-out, r2t, data-in or scsi-response"
        raise RuleError(f"{key}=", f"means nothing of {kind.name}, which belongs to no command", remedy=remedy)


def _check_fields(conditions: tuple[Condition, ...]) -> None:
    """Checks that the command that is meant, or else any, has the fields that are asked for."""
    meant = [condition for condition in conditions if isinstance(condition, CommandIs)]
    rows = [row for row in TABLE if all(row.operation_code == condition.operation_code for condition in meant)]
    known = {name for row in rows for name in number_fields(row.layout)}
    for condition in conditions:
        if isinstance(condition, CdbFieldIs) and condition.field not in known:
            whose = "that command" if meant else "any command"
            raise RuleError(
                f"cdb.{condition.field}=", f"is no number in the CDB of {whose}", remedy=_near(condition.field, known)
            )


def _near(field: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(field, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(known)}" if known else "leave it out: nothing is known of that command"


def _schedule(given: Mapping[str, str]) -> Schedule:
    """Returns when a rule fires: of `nth` alone once, of `every` alone each so-manyth."""
    counts = {key: count(key, given[key], MAX_COUNT) for key in ("nth", "every", "times") if key in given}
    once = "nth" in counts and len(counts) == 1
    return Schedule(
        nth=counts.get("nth", counts.get("every", 1)),
        every=counts.get("every", 1),
        times=counts.get("times", 1 if once else UNLIMITED),
        probability=_probability(given.get("probability", "1")),
        seed=number("seed", given.get("seed", "0")),
    )


def _probability(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 < found <= 1:
        raise RuleError(
            f"probability={value}", "is no probability", remedy="write a number above 0 and up to 1, such as 0.01"
        )
    return found
