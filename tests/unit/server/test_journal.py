"""Events of a machine and the lines that people and programs see."""

import json
import logging
import sys

import pytest

from iscsi_target.server.journal import JsonFormatter, TextFormatter, announce, record
from iscsi_target.target import ProtocolViolated, SessionEnded

VIOLATED = ProtocolViolated(connection=3, reason="no Login Request")
ENDED = SessionEnded(initiator="iqn.a", isid="80", target="iqn.b", tsih=1)


@pytest.mark.parametrize("event, level", [(VIOLATED, logging.WARNING), (ENDED, logging.INFO)])
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
