"""Hostile targets at an initiator: whatever comes, in any phase, nothing is raised and every request has an end."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.initiator.events import ConnectionLost, Event, LoginFailed
from iscsi_target.initiator.proof import Credentials
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.chap import ChapAccount
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.responses import RESPONSES, LoginResponse, Response
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.iscsi.text import encode
from iscsi_target.wire.codec import Form
from tests.unit.initiator.bench import LUN, READY, Desk, logged_in

ALICE, VAULT = ChapAccount("alice", b"a secret of alice"), ChapAccount("vault", b"a secret of vault")
SMALL = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 100, 101, 102, 512, NO_TAG])  # numbers that collide with those in use
KEYS = ["AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_R", "CHAP_N", "HeaderDigest", "InitialR2T", "MaxBurstLength"]
KEYS += ["MaxRecvDataSegmentLength", "TargetAddress", "TargetName", "TaskReporting", "X-1", "IFMarker"]
VALUES = ["", "None", "CHAP", "CRC32C", "0", "5", "512", "1,2", "Yes", "No", "Reject", "0x11", "0x", "ä", "99999999"]


def at_once() -> Desk:
    return Desk()


def with_proof() -> Desk:
    return Desk(Settings(credentials=Credentials(ALICE)))


def challenged() -> Desk:
    desk = Desk(Settings(credentials=Credentials(ALICE, VAULT)))
    for pairs in ([("AuthMethod", "CHAP")], [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x11")]):
        desk.reply(LoginResponse(initiator_task_tag=1), encode(pairs))
    return desk


def idle() -> Desk:
    return logged_in()


def working() -> Desk:
    """Has a request of every kind open; their tags are 2 to 7."""
    desk = logged_in(("InitialR2T", "No"))
    session, connection = desk.session, desk.connection
    session.command(READY._replace(read_length=600), connection)
    session.command(READY._replace(data_out=bytes(100_000)), connection)
    session.ping(b"x", connection)
    session.ask([("X-1", "1")], connection)
    session.manage(TaskManagement.ABORT_TASK, LUN, connection, referenced_task_tag=2)
    session.log_out(connection)
    return desk


PHASES = [at_once, with_proof, challenged, idle, working]


@st.composite
def headers(draw: st.DrawFn) -> Response:
    """A response with a few fields of any value and the rest as they should be."""
    kind = draw(st.sampled_from(list(RESPONSES.values())))
    fields: dict[str, Any] = {}
    for field in kind.declared:
        if field.reserved or field.name in ("opcode", "total_ahs_length", "data_segment_length"):
            continue
        if field.form is Form.FLAG and draw(st.booleans()):
            fields[field.name] = draw(st.booleans())
        elif field.form in (Form.BITS, Form.NUMBER) and draw(st.booleans()):
            fields[field.name] = draw(SMALL) % (1 << field.width_bits)
    return kind(**fields)


TEXTS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=4).map(encode)
DATA = st.one_of(st.just(b""), TEXTS, st.binary(max_size=60), st.just(bytes(512)))


def check(desk: Desk, events: list[Event]) -> None:
    """Every request is answered, or lost with the connection, once."""
    events += desk.connection.lose("the end")
    desk.connection.take_output()
    ends = [event for event in events if isinstance(event, ConnectionLost | LoginFailed)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    assert not desk.session.requests
    tags = [tag for event in events if (tag := getattr(event, "tag", None)) is not None]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("phase", PHASES)
@given(sent=st.lists(st.tuples(headers(), DATA, st.booleans()), min_size=1, max_size=8))
def test_responses_of_any_kind_raise_nothing_and_end_every_request(phase: Callable[[], Desk], sent: list):
    """Law: receive() raises nothing for any PDUs in any phase, also when they have the StatSN that is due."""
    desk = phase()
    events: list[Event] = []
    for header, data, numbered in sent:
        desk.connection.take_output()
        events += desk.reply(header, data) if numbered else desk.feed(b"".join(frame(header, data, **desk.digests)))
    check(desk, events)


@pytest.mark.parametrize("phase", PHASES)
@given(sent=st.binary(max_size=300), cut=st.integers(0, 300))
def test_random_bytes_raise_nothing_and_end_every_request(phase: Callable[[], Desk], sent: bytes, cut: int):
    """Law: as above, for bytes that are no PDUs at all, in any pieces."""
    desk = phase()
    check(desk, desk.feed(sent[:cut]) + desk.feed(sent[cut:]))
