"""Admission of connections A, B and C, numbers 1 to 3, on a clock that the test moves."""

from typing import NamedTuple

import pytest

from iscsi_target.server import admission as admission_module
from iscsi_target.server.admission import LOGIN_GRACE_S, Admission
from iscsi_target.target import Limits


class Peer(NamedTuple):
    host: str


class Connected(NamedTuple):
    number: int
    peer: Peer = Peer("192.0.2.1")
    has_input: bool = False


A, B, C = Connected(1), Connected(2), Connected(3)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitting(clock: Clock, limits: Limits, *connections: Connected) -> Admission:
    """Returns an admission that has admitted these."""
    admission = Admission(limits, clock)
    for connection in connections:
        admission.admit(connection)
    return admission


def test_connections_are_refused_beyond_the_limit_of_all(clock):
    admission = admitting(clock, Limits(connections=2), A)
    assert admission.refusal("192.0.2.2") == ""
    admission.admit(B)
    assert admission.refusal("192.0.2.2") == "2 connections are open"
    admission.forget(A.number)
    assert admission.refusal("192.0.2.2") == ""


def test_connections_are_refused_beyond_the_limit_of_their_address(clock):
    admission = admitting(clock, Limits(connections_per_address=1), A, B._replace(peer=Peer("192.0.2.2")))
    assert admission.refusal("192.0.2.1") == "1 connections from this address are open"
    assert admission.refusal("192.0.2.3") == ""
    admission.forget(A.number)
    admission.forget(A.number)
    assert admission.refusal("192.0.2.1") == ""


def test_connections_are_refused_that_there_is_no_descriptor_for(clock, monkeypatch):
    monkeypatch.setattr(admission_module, "affordable_connections", lambda: 1)
    assert "raise the limit of open files" in admitting(clock, Limits(), A).refusal("192.0.2.2")


def test_who_has_logged_in_takes_no_room(clock):
    admission = admitting(clock, Limits(pending_logins=1), A)
    assert admission.full
    admission.settle(A.number)
    assert not admission.full
    assert admission.waiting == 0


def test_there_is_no_room_until_one_has_had_its_time(clock):
    admission = admitting(clock, Limits(pending_logins=2), A)
    assert admission.has_room()
    clock.now += 0.5 * LOGIN_GRACE_S
    admission.admit(B)
    assert not admission.has_room()
    clock.now += 0.5 * LOGIN_GRACE_S
    assert admission.has_room()
    assert admission.first_to_go() == A.number
    admission.forget(A.number)
    admission.admit(C)
    assert not admission.has_room()


def test_who_waits_for_the_server_is_not_cut(clock):
    eager = A._replace(has_input=True)
    admission = admitting(clock, Limits(pending_logins=2), eager, B)
    clock.now += LOGIN_GRACE_S
    assert admission.first_to_go() == B.number
    admission.forget(B.number)
    admission.admit(C)
    assert not admission.has_room()


def test_the_first_goes_when_none_has_had_its_time(clock):
    admission = admitting(clock, Limits(pending_logins=1), A, B)
    assert admission.first_to_go() == A.number
