"""Hostile initiators at a target: whatever comes, in whatever phase, nothing is raised and the others are served."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.iscsi import requests
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import REQUESTS, Request
from iscsi_target.iscsi.text import encode
from iscsi_target.target import Timeouts
from tests.initiator import NODE, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
SMALL = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 512, NO_TAG])  # numbers that collide with those in use
KEYS = ["InitiatorName", "TargetName", "AuthMethod", "SessionType", "SendTargets", "MaxBurstLength", "CHAP_A", "X-1"]
VALUES = ["", "None", "All", "0", "Yes", NODE, "iqn.2026-01.org.example:hostile", "CHAP", "5", "0x", "99999999"]
CDBS = [b"\x28" + bytes(8) + b"\x01", b"\x2a" + bytes(8) + b"\x01", b"\xa0" + bytes(9), b"\x12" + bytes(9), b"\x1d"]


def silent(lab: Lab) -> Host:
    return lab.connect("hostile")


def half_logged_in(lab: Lab) -> Host:
    host = lab.connect("hostile")
    names = encode([("InitiatorName", host.name), ("TargetName", NODE)])
    host.send(host.login_request(current_stage=0, transit=False), names)
    return host


def discovering(lab: Lab) -> Host:
    host = lab.connect("hostile")
    host.login(None)
    return host


def working(lab: Lab) -> Host:
    return lab.session("hostile", offers=[("InitialR2T", "No")])


def writing(lab: Lab) -> Host:
    """Has one write that waits for data, one that was announced, and one at the medium."""
    host = lab.session("hostile", offers=[("InitialR2T", "No"), ("MaxBurstLength", "1024")])
    host.ask_to_write(0, 4)
    host.ask_to_write(9, 2, final=False)
    lab.slow = True
    host.write(5, ONES)
    return host


def leaving(lab: Lab) -> Host:
    host = writing(lab)
    host.logout()
    return host


def replacing(lab: Lab) -> Host:
    writing(lab)
    host = lab.connect("hostile")
    host.login()
    return host


def digesting(lab: Lab) -> Host:
    return lab.session("hostile", offers=[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])


PHASES = [silent, half_logged_in, discovering, working, writing, leaving, replacing, digesting]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=5))
    return encode(pairs)


@st.composite
def headers(draw: st.DrawFn) -> Request:
    """A request with a few fields of any value and the rest as they should be."""
    kind = draw(st.sampled_from(list(REQUESTS.values())))
    fields: dict = {"initiator_task_tag": draw(SMALL)}
    for name in ("cmd_sn", "target_transfer_tag", "referenced_task_tag", "expected_data_transfer_length", "data_sn"):
        if hasattr(kind(), name):
            fields[name] = draw(SMALL)
    for name in ("immediate", "final", "write", "read", "continue_", "transit"):
        if hasattr(kind(), name):
            fields[name] = draw(st.booleans())
    if kind is requests.ScsiCommand:
        fields["cdb"] = draw(st.sampled_from(CDBS)).ljust(16, b"\0")
        fields["attributes"] = draw(st.integers(0, 7))
    if kind is requests.TaskManagementRequest:
        fields["function"] = draw(st.integers(0, 10))
    if kind is requests.LoginRequest:
        fields["current_stage"], fields["next_stage"] = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    if kind is requests.LogoutRequest:
        fields["reason_code"] = draw(st.integers(0, 4))
    return kind(**fields)


@st.composite
def pdus(draw: st.DrawFn) -> tuple[Request, bytes, bytes, tuple[int, int] | None]:
    """A header, data, additional headers, and at times a byte to change."""
    data = draw(st.one_of(st.just(b""), texts(), st.binary(max_size=40), st.just(ONES)))
    additional = draw(st.one_of(st.just(b""), st.binary(min_size=4, max_size=4), st.just(b"\0\x05\x02\0\0\0\2\0")))
    change = draw(st.none() | st.tuples(st.integers(0, 47), st.integers(0, 255)))
    return draw(headers()), data, additional, change


def pack(host: Host, pdu: tuple[Request, bytes, bytes, tuple[int, int] | None]) -> bytes:
    header, data, additional, change = pdu
    digests = host.digests if host.logged_in else {}
    whole = bytearray(b"".join(bytes(buffer) for buffer in frame(header, data, additional, **digests)))
    if change is not None:
        place, value = change
        whole[place] = value
    return bytes(whole)


def check_the_others(lab: Lab) -> None:
    """Lets the media finish and takes the hostile ones away: everybody else is served and nothing is left."""
    lab.finish_all()
    for host in list(lab.hosts.values()):
        if not host.closed:
            host.cut()
    lab.finish_all()
    lab.slow = False
    other = lab.session("other")
    assert other.outcome(other.write(900, ONES)).status == 0
    assert other.outcome(other.read(900)).data == ONES
    other.logout()
    assert lab.clean


@pytest.mark.parametrize("phase", PHASES)
@given(sent=st.lists(pdus(), min_size=1, max_size=8), chunk=st.sampled_from([1, 48, 50, 10_000]), late=st.booleans())
def test_mutated_pdus_raise_nothing_and_leave_nothing(phase: Callable[[Lab], Host], sent: list, chunk: int, late: bool):
    """Law: received() raises nothing for any PDUs in any phase, and their connection leaves nothing behind."""
    lab = Lab()
    host = phase(lab)
    for number, pdu in enumerate(sent):
        packed = pack(host, pdu)
        for start in range(0, len(packed), chunk):
            host.feed(packed[start : start + chunk])
        if late and number % 2 and lab.at_medium:
            lab.finish()
    check_the_others(lab)


@pytest.mark.parametrize("phase", PHASES)
@given(sent=st.binary(max_size=300))
def test_random_bytes_raise_nothing_and_leave_nothing(phase: Callable[[Lab], Host], sent: bytes):
    """Law: as above, for bytes that are no PDUs at all."""
    lab = Lab()
    phase(lab).feed(sent)
    check_the_others(lab)


@pytest.mark.parametrize("phase", PHASES)
def test_connection_that_falls_silent_in_any_phase_is_cut(phase: Callable[[Lab], Host]):
    """Law: time alone ends every connection that says nothing."""
    lab = Lab(timeouts=Timeouts(30, 15, 15, 10))
    host = phase(lab)
    lab.wait(61)
    assert host.closed
    check_the_others(lab)


@given(sent=st.lists(pdus(), min_size=1, max_size=6), cuts=st.lists(st.integers(1, 200), max_size=6))
def test_any_chunking_gives_the_same_answers(sent: list, cuts: list[int]):
    """Law: how the bytes of a connection are cut into calls changes nothing in what goes out."""
    answers = []
    for sizes in ([], cuts):
        lab = Lab()
        host = working(lab)
        stream = b"".join(pack(host, pdu) for pdu in sent)
        for size in sizes:
            host.feed(stream[:size])
            stream = stream[size:]
        if stream:
            host.feed(stream)
        answers.append((host.received, host.closed))
    assert answers[0] == answers[1]
