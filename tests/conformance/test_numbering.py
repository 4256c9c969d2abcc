"""CmdSN, StatSN and the command window on the wire."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import CommandReceived
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import (
    LogoutRequest,
    NopOut,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import DataIn, NopIn, Reject, ScsiResponse
from tests.transcript import Transcript, only

LAST = 2**32 - 1


@pytest.mark.case("FFP-1.2")
@pytest.mark.clause("RFC7143 4.2.2.1")
@pytest.mark.parametrize("first", [1, 0, LAST, 2**31 - 1])
@pytest.mark.parametrize("distance", [-1, -100, WINDOW_COMMANDS, 5000, 2**31])
def test_command_outside_the_window_is_silently_dropped(first, distance):
    transcript = Transcript(first_cmd_sn=first)
    outside = ScsiCommand(initiator_task_tag=5, cmd_sn=(first + distance) % 2**32)
    assert transcript.send(outside) == []
    assert transcript.events == []
    assert not transcript.connection.closing
    header = only(transcript.ask(NopOut()), NopIn)
    assert header.exp_cmd_sn == (first + 1) % 2**32


@pytest.mark.case("FFP-1.3")
@pytest.mark.clause("RFC7143 4.2.2.1")
@pytest.mark.parametrize(
    "request_pdu",
    [ScsiCommand(), NopOut(), TextRequest(), TaskManagementRequest(function=1), LogoutRequest()],
)
def test_duplicate_of_a_request_is_silently_dropped(request_pdu):
    transcript = Transcript()
    transcript.cmd_sn = 1
    numbered = request_pdu.replace(cmd_sn=1, initiator_task_tag=5)
    transcript.send(numbered)
    transcript.events.clear()
    assert transcript.send(numbered) == []
    assert transcript.events == []


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_commands_are_delivered_in_cmd_sn_order():
    transcript = Transcript()
    for cmd_sn in (3, 2, 4):
        transcript.send(ScsiCommand(initiator_task_tag=cmd_sn, cmd_sn=cmd_sn))
        assert transcript.events == []
    transcript.send(ScsiCommand(initiator_task_tag=1, cmd_sn=1))
    assert [event.tag for event in transcript.take(CommandReceived)] == [1, 2, 3, 4]


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_immediate_command_is_delivered_at_once_and_does_not_advance_cmd_sn():
    transcript = Transcript()
    transcript.send(ScsiCommand(initiator_task_tag=2, cmd_sn=2))
    transcript.send(ScsiCommand(initiator_task_tag=9, cmd_sn=1, immediate=True))
    assert [event.tag for event in transcript.take(CommandReceived)] == [9]
    header = only(transcript.respond(9), ScsiResponse)
    assert header.exp_cmd_sn == 1


@pytest.mark.case("FFP-1.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_each_response_reports_the_window():
    transcript = Transcript(first_cmd_sn=LAST)
    header = only(transcript.respond(transcript.read(0)), ScsiResponse)
    assert (header.exp_cmd_sn, header.max_cmd_sn) == (0, WINDOW_COMMANDS - 1)


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_full_window_is_reported_as_closed():
    transcript = Transcript()
    for _ in range(WINDOW_COMMANDS):
        transcript.read(0)
    header = only(transcript.ask(NopOut(immediate=True)), NopIn)
    assert (header.exp_cmd_sn, header.max_cmd_sn) == (WINDOW_COMMANDS + 1, WINDOW_COMMANDS)


@pytest.mark.case("FFP-2.1")
@pytest.mark.clause("RFC7143 4.2.2.2")
def test_stat_sn_goes_up_by_one_with_each_status():
    transcript = Transcript()
    numbers = [only(transcript.ask(NopOut()), NopIn).stat_sn]
    numbers += [only(transcript.respond(transcript.read(0)), ScsiResponse).stat_sn]
    numbers += [only(transcript.send(SnackRequest()), Reject).stat_sn]
    numbers += [only(transcript.respond(transcript.read(4), data_in=b"data"), DataIn).stat_sn]
    numbers += [pdu.header.stat_sn for pdu in transcript.ask(TextRequest())]
    assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.clause("RFC7143 4.2.2.2")
def test_pdus_without_status_take_no_stat_sn():
    transcript = Transcript(initiator_max_recv=512)
    transcript.wants = 10
    [asked] = transcript.write(10)
    first, last = transcript.respond(transcript.read(1024), data_in=bytes(1024))
    assert first.header.stat_sn == last.header.stat_sn == asked.header.stat_sn == 1
    assert only(transcript.ask(NopOut()), NopIn).stat_sn == 2


@pytest.mark.case("FFP-14.2")
@pytest.mark.clause("RFC7143 11.17.1")
def test_rejected_command_uses_up_its_cmd_sn():
    transcript = Transcript()
    header = only(transcript.ask(ScsiCommand(attributes=7)), Reject)
    assert header.reason == RejectReason.INVALID_PDU_FIELD
    assert header.exp_cmd_sn == 2


@pytest.mark.clause("RFC7143 11.17.1")
def test_command_with_a_tag_in_use_is_rejected_as_task_in_progress():
    transcript = Transcript()
    transcript.read(0, initiator_task_tag=5)
    header = only(transcript.ask(ScsiCommand(initiator_task_tag=5)), Reject)
    assert header.reason == RejectReason.TASK_IN_PROGRESS
    assert transcript.session.open_tasks == 1


@pytest.mark.clause("RFC7143 11.2.1.8")
def test_command_without_a_tag_is_rejected():
    header = only(Transcript().ask(ScsiCommand(initiator_task_tag=LAST)), Reject)
    assert header.reason == RejectReason.INVALID_PDU_FIELD
