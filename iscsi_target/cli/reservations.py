"""`iscsi-target reservations`: shows what a running server has reserved and why, and lets the operator overrule it.

`show` prints what sg_persist prints, since programs read it. When an initiator would get no page, because reservations
are lost, an SPC-2 reservation is there or the personality has none, neither does a program that reads this; `--json`
tells.

An order that was given may be done although nobody heard of it, so that has an exit status of its own: the others but
`EXIT_INTERRUPTED` say whether it was done.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple, assert_never

from iscsi_target.cli import sg_persist_text
from iscsi_target.cli.control_client import (
    EXIT_INTERRUPTED,
    EXIT_UNDECIDED,
    Answer,
    Unanswered,
    ask,
    ask_once,
    server_state,
    unanswered,
)
from iscsi_target.config.values import ConfigError
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.reservations.reservation_record import from_record
from iscsi_target.scsi.reservations.reservations import Reservations

ORDERS = ("clear", "preempt")


class Page(Enum):
    """What `show` prints; the values are the options."""

    KEYS_AND_RESERVATION = "keys and reservation"
    FULL_STATUS = "full status"
    CAPABILITIES = "capabilities"


class Options(NamedTuple):
    """What the command line says.

    verb            show, log, watch, clear or preempt
    state           the server's state directory, or None
    configuration   a file that names it, or None
    page            for show
    key, abort      for preempt; hexadecimal, with or without 0x
    """

    verb: str
    unit: str
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False
    page: Page = Page.KEYS_AND_RESERVATION
    key: str = ""
    abort: bool = False


class Undecided(ConfigError):
    """Says that an order was given and nobody knows what came of it."""


def run(options: Options) -> int:
    """Carries the command out and returns the exit status.

    raises    ConfigError for what is not done
    """
    try:
        for line in _lines(options, server_state(options.state, options.configuration)):
            print(line, flush=True)
    except Undecided as error:
        print(f"iscsi-target: {error}", file=sys.stderr)
        return EXIT_UNDECIDED
    except KeyboardInterrupt:
        return _interrupted(options)
    except BrokenPipeError:  # whoever reads has seen enough
        with Path(os.devnull).open("w") as nowhere:  # what is still in the buffer goes here at the end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return 0


def _interrupted(options: Options) -> int:
    if options.verb == "watch":  # which is how one stops watching
        return 0
    if options.verb in ORDERS:
        shown = f"`iscsi-target reservations log {options.unit}` shows it"
        print(f"iscsi-target: interrupted; the order goes on if it was given: {shown}", file=sys.stderr)
    return EXIT_INTERRUPTED


def _lines(options: Options, state: Path) -> Iterator[str]:
    match options.verb:
        case "show":
            answer = ask_once(state, {"request": "reservations", "unit": options.unit})
            yield from [json.dumps(answer)] if options.json else _shown(state, answer, options.page)
        case "log":
            yield from _log(state, options)
        case "watch":
            yield from _watch(state, options)
        case _:
            answer = _ordered(state, options)
            yield from [json.dumps(answer)] if options.json else _done(answer)


def _ordered(state: Path, options: Options) -> Answer:
    """Gives an order and returns what it came to."""
    try:
        return ask_once(state, _order(options))
    except Unanswered as error:
        what = "the server ended before it had answered; it may be done or not"
        remedy = f"see `iscsi-target reservations show {options.unit}` after a restart"
        raise Undecided(error.where, what, remedy=remedy) from error


def _order(options: Options) -> dict[str, str]:
    if options.verb == "clear":
        return {"request": "clear", "unit": options.unit}
    return {"request": "preempt_and_abort" if options.abort else "preempt", "unit": options.unit, "key": options.key}


def _log(state: Path, options: Options) -> Iterator[str]:
    entries = []
    for answer in ask(state, {"request": "log", "unit": options.unit}):
        if "entries" in answer:
            break
        entries.append(answer)  # all of it before a line is printed: a pager may stop reading, and the server not wait
    else:
        raise unanswered(state)
    for entry in entries:
        yield _entry_line(entry, options)


def _watch(state: Path, options: Options) -> Iterator[str]:
    with contextlib.suppress(Unanswered):
        for answer in ask(state, {"request": "watch", "unit": options.unit}):
            if "watching" not in answer:
                yield _entry_line(answer, options)
    raise ConfigError(f"state {state}", "the server ended, or cut the connection", remedy="start it and watch again")


def _entry_line(answer: Answer, options: Options) -> str:
    if options.json:
        return json.dumps(answer)
    if "left_out" in answer:
        return f"{answer['left_out']} entries are missing here: they were not read fast enough"
    time_s, times = answer.get("time"), answer.get("times")
    at = datetime.fromtimestamp(time_s).astimezone() if isinstance(time_s, int | float) else None
    repeated = f" ({times} times)" if times != 1 else ""
    return f"{at.isoformat(timespec='milliseconds') if at else '-'} {answer.get('text')}{repeated}"


def _done(answer: Answer) -> Iterator[str]:
    """Says what an order came to, and who lost his registration by it."""
    entry = answer.get("entry")
    yield f"unit {answer.get('unit')}: {entry.get('text') if isinstance(entry, dict) else answer.get('status')}"
    removed = answer.get("removed")
    for lost in removed if isinstance(removed, list) else []:
        initiator_port = f"{lost['initiator']},i,0x{lost['isid']}"
        yield f"removed: key {lost['key']} of {initiator_port} at {lost['target']},t,0x{lost['portal_group_tag']:04x}"
    if answer.get("released"):
        yield "the reservation is released"


# show


class _Unit(NamedTuple):
    """What a server tells of a unit's reservations."""

    inquiry: list[str]
    state: Reservations
    relative_identifiers: dict[TargetPort, int]
    capabilities: CapabilitiesData


def _shown(state: Path, answer: Answer, page: Page) -> list[str]:
    try:
        unit = _understood(answer)
    except (KeyError, TypeError, ValueError) as error:
        remedy = "use the iscsi-target that the server is"
        raise ConfigError(f"state {state}", f"its server speaks otherwise: {error!r}", remedy=remedy) from error
    if unit.state.lost:
        what = f"unit {answer.get('unit')}: the stored reservations are lost, so nobody knows what they were"
        cleared = f"`iscsi-target reservations clear {answer.get('unit')}`"
        remedy = f"{cleared} ends that, and so does REPLACE LOST RESERVATION by an initiator"
        raise ConfigError(f"state {state}", what, remedy=remedy)
    hindrance = _hindrance(answer)
    if hindrance:
        raise ConfigError(f"state {state}", hindrance, remedy="--json tells what the unit knows")
    return unit.inquiry + _page(unit, page)


def _page(unit: _Unit, page: Page) -> list[str]:
    match page:
        case Page.FULL_STATUS:
            return sg_persist_text.read_full_status(unit.state, unit.relative_identifiers)
        case Page.CAPABILITIES:
            return sg_persist_text.report_capabilities(unit.capabilities)
        case Page.KEYS_AND_RESERVATION:
            return sg_persist_text.read_keys(unit.state) + sg_persist_text.read_reservation(unit.state)
        case _:
            assert_never(page)


def _understood(answer: Answer) -> _Unit:
    identity, ports, capabilities = answer["identity"], answer["ports"], answer["capabilities"]
    if not isinstance(identity, dict) or not isinstance(ports, list) or not isinstance(capabilities, dict):
        raise TypeError("not a unit")
    return _Unit(
        inquiry=sg_persist_text.inquiry(**identity),
        state=from_record(answer["reservations"]),
        relative_identifiers={
            TargetPort(port["target"], port["portal_group_tag"]): port["relative_identifier"] for port in ports
        },
        capabilities=CapabilitiesData(**capabilities),
    )


def _hindrance(answer: Mapping[str, object]) -> str:
    """Returns what an initiator would meet instead of an answer, or nothing."""
    unit = answer.get("unit")
    holder = answer.get("spc2_holder")
    if isinstance(holder, dict):
        whose = f"{holder['initiator']},i,0x{holder['isid']}"
        return f"unit {unit} is reserved with RESERVE by {whose}; commands of persistent reservations conflict"
    if not answer.get("has_persistent_reservations", True):
        return f"unit {unit} has no persistent reservations: its personality is {answer.get('personality')}"
    return ""
