"""Turns what a target announces into log records, and log records into lines: text for people, JSON for programs.

A record carries the event's name and its fields as the attributes `event` and `fields`, so that any handler of an
embedding program can use them. Secrets and user data never are fields of an event. What happened to reservations is one
sentence in text, and in JSON the record of the timeline's entry as the field `entry`.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.scsi.state.task import Milestone
from iscsi_target.scsi.state.timeline import entry_record
from iscsi_target.scsi.status import Status
from iscsi_target.target import (
    ConnectionJoined,
    ConnectionLeft,
    Event,
    FaultFired,
    ReservationNoted,
    SanitizeNoted,
    SessionEnded,
    SessionStarted,
)

log = logging.getLogger(__name__)

USUAL = (SessionStarted, SessionEnded, ConnectionJoined, ConnectionLeft)  # no error of anybody

# A unit that could not be sanitized refuses commands until somebody sanitizes it again.
_SANITIZE_LEVELS = {Milestone.FAILED: logging.ERROR, Milestone.FAILURE_LEFT: logging.WARNING}


def announce(event: Event, peer: str) -> None:
    """Logs an event of the machine: an initiator's errors as WARNING, sessions and changes of reservations as INFO.

    Of faults on order that is the first of each rule; the others are DEBUG.

    peer    the address of the connection that the event names, or empty
    """
    level = _level(event)
    if log.isEnabledFor(level):
        fields = _fields(event)
        record(level, _words(type(event).__name__), fields | {"peer": peer} if peer else fields, _text(event))


def _level(event: Event) -> int:
    if isinstance(event, ReservationNoted):
        return logging.INFO if event.entry.told.status is Status.GOOD else logging.DEBUG
    if isinstance(event, SanitizeNoted):
        return _SANITIZE_LEVELS.get(event.milestone, logging.INFO)
    if isinstance(event, FaultFired):
        return logging.INFO if event.times == 1 else logging.DEBUG
    return logging.INFO if isinstance(event, USUAL) else logging.WARNING


def _fields(event: Event) -> dict[str, object]:
    if isinstance(event, ReservationNoted):
        return {"unit": event.unit, "entry": entry_record(event.entry)}
    if isinstance(event, SanitizeNoted):
        said = {"milestone": event.milestone.name, "method": str(event.sanitization.method)}
        return {"unit": event.unit, **said, "initiator": event.initiator}
    return event._asdict()


def _text(event: Event) -> str:
    """Returns a sentence for people where the words and fields are none."""
    if isinstance(event, ReservationNoted):
        return f"unit {event.unit}: {event.entry}"
    if isinstance(event, SanitizeNoted):
        by = f", asked for by {event.initiator}" if event.initiator else ""
        method = event.sanitization.method
        what = str(method) if method is Method.FORMAT else f"sanitize by {method}"
        return f"unit {event.unit}: {what} {event.milestone.value}{by}"
    if isinstance(event, FaultFired):
        return f"connection {event.connection}: fault {event.rule} for {event.pdu}: {event.text}"
    return ""


def record(level: int, words: str, fields: Mapping[str, object], text: str = "") -> None:
    """Logs words and fields as one event, whose name is the words joined by underscores.

    text    for people, instead of the words and fields
    """
    text = text or " ".join([words, *(f"{key}={_plain(found)}" for key, found in fields.items())])
    log.log(level, "%s", text, extra={"event": words.replace(" ", "_"), "fields": dict(fields)})


class TextFormatter(logging.Formatter):
    """One line of text, with a traceback after an internal error; for a terminal or the system's journal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: event, time, level, message and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without a line feed."""
        described = record.__dict__
        entry = {
            "event": described.get("event", "log"),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return _encode(entry | described.get("fields", {}))


@cache
def _words(kind: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip()


def _plain(found: object) -> str:
    return found.hex() if isinstance(found, bytes) else str(found)


_encode = json.JSONEncoder(default=_plain).encode  # `json.dumps` would make an encoder for every line
