"""Events of a machine and the lines that people and programs see."""

import json
import logging
import sys

import pytest

from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Milestone
from iscsi_target.scsi.state.timeline import GOOD, Answered, Entry, Explanation, entry_record
from iscsi_target.scsi.status import Status
from iscsi_target.server import journal
from iscsi_target.server.journal import JsonFormatter, TextFormatter, announce, record
from iscsi_target.target import (
    ConnectionJoined,
    ConnectionLeft,
    FaultFired,
    ProtocolViolated,
    ReservationNoted,
    SanitizeNoted,
    SessionEnded,
)

VIOLATED = ProtocolViolated(connection=3, reason="no Login Request")
NEXUS = Nexus(InitiatorPort("iqn.a", bytes(6)), TargetPort("iqn.b", 1))
CHANGE = ReservationNoted(3, 1, "disk0", Entry(7, 99.5, NEXUS, "RESERVE", GOOD, Explanation(Rule.RESERVED, 2)))
REFUSED = Answered(Status.RESERVATION_CONFLICT)
CONFLICT = CHANGE._replace(entry=CHANGE.entry._replace(told=REFUSED, explanation=Explanation(Rule.HOLDER_ONLY, 2)))
JOINED = ConnectionJoined(connection=3, initiator="iqn.a", isid="80", target="iqn.b", tsih=1)
LEFT = ConnectionLeft(connection=3, initiator="iqn.a", isid="80", target="iqn.b", tsih=1)
ENDED = SessionEnded(initiator="iqn.a", isid="80", target="iqn.b", tsih=1)


@pytest.mark.parametrize(
    "event, level",
    [
        (VIOLATED, logging.WARNING),
        (ENDED, logging.INFO),
        (CHANGE, logging.INFO),
        (JOINED, logging.INFO),
        (LEFT, logging.INFO),
    ],
)
def test_errors_of_initiators_are_warnings_and_sessions_are_not(event, level, caplog):
    caplog.set_level(logging.INFO)
    announce(event, "")
    assert [found.levelno for found in caplog.records] == [level]


def test_text_line_names_the_event_and_its_fields(caplog):
    announce(VIOLATED, "192.0.2.1:1234")
    line = TextFormatter().format(caplog.records[0])
    assert line.endswith("protocol violated connection=3 reason=no Login Request peer=192.0.2.1:1234")


def test_json_line_has_the_event_and_its_fields_as_keys(caplog):
    announce(VIOLATED, "192.0.2.1:1234")
    found = json.loads(JsonFormatter().format(caplog.records[0]))
    assert found["event"] == "protocol_violated"
    assert found["level"] == "warning"
    assert (found["connection"], found["reason"], found["peer"]) == (3, "no Login Request", "192.0.2.1:1234")
    assert found["time"].endswith("+00:00")


def test_json_line_of_any_other_record_is_a_log_event():
    plain = logging.LogRecord("x", logging.ERROR, "x.py", 1, "disk %s", ("gone",), None)
    found = json.loads(JsonFormatter().format(plain))
    assert (found["event"], found["message"]) == ("log", "disk gone")


def test_json_line_of_an_internal_error_has_the_traceback():
    try:
        raise AssertionError("bug")
    except AssertionError:
        failed = logging.LogRecord("x", logging.ERROR, "x.py", 1, "internal error", (), sys.exc_info())
    found = json.loads(JsonFormatter().format(failed))
    assert "AssertionError: bug" in found["traceback"]


def test_bytes_are_written_as_hexadecimal(caplog):
    record(logging.WARNING, "seen", {"isid": b"\x80\x01"})
    assert "isid=8001" in caplog.text
    assert json.loads(JsonFormatter().format(caplog.records[0]))["isid"] == "8001"


def test_conflict_is_the_system_working_and_costs_nothing_unless_it_is_asked_for(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    announce(CONFLICT, "")
    assert [found.levelno for found in caplog.records] == [logging.DEBUG]
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(journal, "entry_record", None)
    announce(CONFLICT, "")
    assert len(caplog.records) == 1


def test_text_line_of_a_reservation_is_a_sentence(caplog):
    caplog.set_level(logging.INFO)
    announce(CHANGE, "192.0.2.1:1234")
    line = TextFormatter().format(caplog.records[0])
    assert line.endswith(f"INFO    unit disk0: {CHANGE.entry}")
    assert "RESERVE from iqn.a,i,0x000000000000: GOOD: the nexus holds the reservation" in line


def test_json_line_of_a_reservation_has_the_entry_of_the_timeline(caplog):
    caplog.set_level(logging.INFO)
    announce(CHANGE, "192.0.2.1:1234")
    found = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (found["event"], found["unit"], found["peer"]) == ("reservation_noted", "disk0", "192.0.2.1:1234")
    assert found["entry"] == entry_record(CHANGE.entry)
    assert found["time"].endswith("+00:00")
    assert found["message"] == f"unit disk0: {CHANGE.entry}"


@pytest.mark.parametrize(
    "milestone, level",
    [
        (Milestone.BEGUN, logging.INFO),
        (Milestone.ENDED, logging.INFO),
        (Milestone.FAILED, logging.ERROR),
        (Milestone.FAILURE_LEFT, logging.WARNING),
    ],
)
def test_a_sanitize_operation_is_told_of_and_its_pattern_is_not(caplog, milestone, level):
    caplog.set_level(logging.INFO)
    pattern = b"secret" + bytes(506)
    announce(SanitizeNoted("disk0", milestone, Sanitization(Method.OVERWRITE, 512, pattern=pattern), "iqn.a"), "")
    [logged] = caplog.records
    assert logged.levelno == level
    assert logged.message == f"unit disk0: sanitize by overwrite {milestone.value}, asked for by iqn.a"
    found = json.loads(JsonFormatter().format(logged))
    assert (found["event"], found["milestone"]) == ("sanitize_noted", milestone.name)
    assert (found["unit"], found["method"], found["initiator"]) == ("disk0", "overwrite", "iqn.a")
    assert b"secret".hex() not in json.dumps(found)


def test_a_sanitize_operation_that_went_on_by_itself_was_asked_for_by_nobody(caplog):
    caplog.set_level(logging.INFO)
    announce(SanitizeNoted("disk0", Milestone.ENDED, Sanitization(Method.BLOCK_ERASE, 512), ""), "")
    assert caplog.records[0].message == "unit disk0: sanitize by block erase has ended"
    announce(SanitizeNoted("disk0", Milestone.ENDED, Sanitization(Method.FORMAT, 512), ""), "")
    assert caplog.records[1].message == "unit disk0: format has ended"


def test_the_first_fault_of_a_rule_is_told_and_the_others_are_for_who_wants_all(caplog):
    caplog.set_level(logging.DEBUG)
    for times in (1, 2):
        announce(FaultFired(3, "slow", "on in: delay 2s", "nop-out", 7, times), "192.0.2.1:1234")
    assert [found.levelno for found in caplog.records] == [logging.INFO, logging.DEBUG]
    assert caplog.records[0].getMessage() == "connection 3: fault slow for nop-out: on in: delay 2s"
    found = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (found["event"], found["rule"], found["pdu"], found["times"]) == ("fault_fired", "slow", "nop-out", 1)
