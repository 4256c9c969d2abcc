"""The clock of one connection; time is in seconds from 0."""

import pytest

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.login import Endpoint, LoginPhase, Negotiated, Parameters, SessionType
from iscsi_target.iscsi.session import Session
from iscsi_target.target.alarms import NEVER
from iscsi_target.target.link import Due, Link
from iscsi_target.target.nodes import Timeouts

TIMEOUTS = Timeouts(login_s=30, nop_interval_s=10, nop_answer_s=5, logout_s=7)


def make_session() -> Session:
    negotiated = Negotiated("a", "", bytes(6), 0, 0, SessionType.DISCOVERY, None, Parameters())
    return Session(negotiated, 1, 1, lambda connection, value: [])


@pytest.fixture
def link() -> Link:
    login = LoginPhase(Endpoint({}), 1, bytes)
    return Link(Connection(1, 1, "", login, {}), TIMEOUTS, 0.0)


@pytest.fixture
def admitted(link: Link) -> Link:
    session = make_session()
    link.connection.phase = session
    link.admitted(session, 0.0)
    return link


def test_login_is_cut_at_its_limit_whatever_is_heard(link: Link):
    link.heard(29.0)
    assert link.due(29.9) is Due.NOTHING
    assert link.due(30.0) is Due.CUT_LOGIN
    assert link.deadline == 30.0


def test_silent_initiator_is_pinged_and_then_cut(admitted: Link):
    assert (admitted.due(9.9), admitted.due(10.0)) == (Due.NOTHING, Due.PING)
    admitted.ping(10.0)
    assert (admitted.due(14.9), admitted.due(15.0)) == (Due.NOTHING, Due.CUT_SILENT)


def test_anything_heard_counts_as_an_answer(admitted: Link):
    admitted.ping(10.0)
    admitted.heard(14.0)
    assert admitted.due(15.0) is Due.NOTHING
    assert admitted.deadline == 24.0


def test_who_was_asked_to_leave_is_cut_at_the_limit_though_it_talks(admitted: Link):
    admitted.asked_to_leave(1.0)
    admitted.heard(7.9)
    assert admitted.due(8.0) is Due.CUT_LEAVING


def test_being_asked_again_gives_no_more_time(admitted: Link):
    admitted.asked_to_leave(1.0)
    admitted.asked_to_leave(5.0)
    assert admitted.due(8.0) is Due.CUT_LEAVING


def test_pinged_initiator_is_not_pinged_again(admitted: Link):
    admitted.ping(10.0)
    assert admitted.deadline == 15.0
    assert admitted.deadline < NEVER
