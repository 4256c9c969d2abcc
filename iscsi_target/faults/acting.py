"""Reads the action of a rule."""

import difflib
import re
from collections.abc import Callable, Mapping

from iscsi_target.faults.actions import (
    FOR_GOOD,
    Action,
    Answer,
    Attention,
    Change,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Hang,
    Part,
    Refuse,
    Reorder,
    Stall,
)
from iscsi_target.faults.kinds import Kind
from iscsi_target.faults.reading import RuleError, count, key_of, number, seconds
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.scsi.status import Sense, SenseKey, Status

MAX_PASSING = 64  # PDUs that go before one; it has to wait for them
MAX_OFFSET = (1 << 24) - 1  # of a byte in a data segment. Source: RFC7143 11.2.1.6

_STATUSES = {key_of(status.name): status for status in Status if status not in (Status.GOOD, Status.CHECK_CONDITION)}
_REFUSALS = {key_of(status.name): status for status in LoginStatus if status >= LoginStatus.INITIATOR_ERROR}
_SENSE = re.compile(r"([0-9a-f])h?/([0-9a-f]{1,2})h?/([0-9a-f]{1,2})h?")
_CODE = re.compile(r"([0-9a-f]{1,2})h?/([0-9a-f]{1,2})h?")
_CHANGE = re.compile(r"(\w+)\s+(by|to)\s+(-?\w+)")
_AT = re.compile(r"data(?:\s+at\s+(\w+))?")


def action(text: str, kind: Kind) -> Action:
    """Makes an action of its text.

    kind     what the rule is about
    raises   RuleError
    """
    verb, _, rest = " ".join(text.lower().split()).partition(" ")
    if verb not in _ACTIONS:
        close = difflib.get_close_matches(verb, _ACTIONS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"the actions are {', '.join(_ACTIONS)}"
        raise RuleError(repr(text.strip()), "is no action", remedy=remedy)
    return _ACTIONS[verb](rest, kind)


def _plain(verb: str, made: Action) -> Callable[[str, Kind], Action]:
    """Returns what reads an action that is one word."""

    def read(rest: str, kind: Kind) -> Action:
        if rest:
            raise RuleError(repr(rest), f"is too much after {verb}", remedy="leave it out")
        return made

    return read


def _delay(rest: str, kind: Kind) -> Action:
    return Delay(seconds("delay", rest))


def _reorder(rest: str, kind: Kind) -> Action:
    return Reorder(count("reorder", rest or "1", MAX_PASSING))


def _stall(rest: str, kind: Kind) -> Action:
    return Stall(seconds("stall", rest) if rest else FOR_GOOD)


def _hang(rest: str, kind: Kind) -> Action:
    _check_of_command("hang", kind)
    return _plain("hang", Hang())(rest, kind)


def _corrupt(rest: str, kind: Kind) -> Action:
    if found := _AT.fullmatch(rest):
        offset = number("at", found[1] or "0")
        if offset > MAX_OFFSET:
            raise RuleError(f"at {found[1]}", "is beyond any data segment", remedy=f"write 0 to {MAX_OFFSET}")
        return Corrupt(Part.DATA, offset)
    for part in (Part.HEADER_DIGEST, Part.DATA_DIGEST):
        if key_of(rest) == part.value:
            return Corrupt(part)
    raise RuleError(
        f"corrupt {rest}".strip(), "does not say what", remedy="write header-digest, data-digest, data or data at 7"
    )


def _change(rest: str, kind: Kind) -> Action:
    found = _CHANGE.fullmatch(rest)
    if found is None:
        raise RuleError(
            f"change {rest}".strip(), "is no change", remedy="write change stat_sn by 1, or change stat_sn to 7"
        )
    field, how, amount = found.groups()
    known = kind.numbers()
    if field not in known:
        close = difflib.get_close_matches(field, known, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none: name one kind'}"
        raise RuleError(f"change {field}", f"names no number in the header of {kind.name}", remedy=remedy)
    wanted = number(field, amount.removeprefix("-"))
    if how == "by":
        return Change(field, by=-wanted if amount.startswith("-") else wanted, to=None)
    widths = [its.width_bits for layout in kind.layouts for its in layout.declared if its.name == field]
    if amount.startswith("-") or wanted >> min(widths):
        raise RuleError(
            f"{field} to {amount}", "does not fit the field", remedy=f"write at most {(1 << min(widths)) - 1}"
        )
    return Change(field, by=None, to=wanted)


def _answer(rest: str, kind: Kind) -> Action:
    _check_of_command("answer", kind)
    name = key_of(rest)
    if name in _STATUSES:
        return Answer(_STATUSES[name])
    found = _SENSE.fullmatch(rest.removeprefix("sense").strip()) if rest.startswith("sense") else None
    if found is None:
        remedy = f"write one of {', '.join(_STATUSES)}, or sense KEY/ASC/ASCQ in hexadecimal, such as sense 3/11/00"
        raise RuleError(f"answer {rest}".strip(), "is no status", remedy=remedy)
    key, code, qualifier = (int(digits, 16) for digits in found.groups())
    if key not in SenseKey.__members__.values():
        raise RuleError(f"sense {found[1]}", "is a reserved sense key", remedy="write another one")
    return Answer(Status.CHECK_CONDITION, Sense(SenseKey(key), code << 8 | qualifier))


def _attention(rest: str, kind: Kind) -> Action:
    _check_of_command("attention", kind)
    found = _CODE.fullmatch(rest)
    if found is None:
        raise RuleError(
            f"attention {rest}".strip(), "is no ASC/ASCQ", remedy="write them in hexadecimal, such as attention 29/00"
        )
    code, qualifier = (int(digits, 16) for digits in found.groups())
    return Attention(code << 8 | qualifier)


def _refuse(rest: str, kind: Kind) -> Action:
    if kind.layout is not LoginRequest:
        raise RuleError("refuse", f"means nothing of {kind.name}", remedy="use it with login-request")
    name = key_of(rest)
    found = _REFUSALS.get(name) or next((each for each in LoginStatus if f"{each:04x}" == name.removesuffix("h")), None)
    if found is None or found < LoginStatus.INITIATOR_ERROR:
        raise RuleError(
            f"refuse {rest}".strip(), "is no login status", remedy=f"write one of {', '.join(_REFUSALS)}, or 0301"
        )
    return Refuse(found)


def _check_of_command(verb: str, kind: Kind) -> None:
    if not kind.is_command:
        raise RuleError(verb, f"means nothing of {kind.name}", remedy="use it with scsi-command")


_ACTIONS: Mapping[str, Callable[[str, Kind], Action]] = {
    "drop": _plain("drop", Drop()),
    "duplicate": _plain("duplicate", Duplicate()),
    "close": _plain("close", Cut()),
    "delay": _delay,
    "reorder": _reorder,
    "stall": _stall,
    "hang": _hang,
    "corrupt": _corrupt,
    "change": _change,
    "answer": _answer,
    "attention": _attention,
    "refuse": _refuse,
}
