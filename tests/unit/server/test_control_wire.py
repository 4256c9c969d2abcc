"""What waits for a client of the control socket, and what it is told; see test_control for clients of a server."""

from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.timeline import GOOD, Entry, Explanation, entry_record
from iscsi_target.server import control_wire
from iscsi_target.server.control_wire import Feed, error_line
from iscsi_target.server.refused import Refused
from iscsi_target.target import ReservationNoted

A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), TargetPort("iqn.2026-01.org.example:node", 1))


def noted(number: int, unit: str = "disk0") -> ReservationNoted:
    return ReservationNoted(None, 0, unit, Entry(number, 0.0, A, "WRITE(10)", GOOD, Explanation(Rule.CLEARED, 0)))


def feed_of(unit: str) -> Feed[ReservationNoted]:
    return Feed(lambda event: event.unit == unit, lambda event: entry_record(event.entry))


def test_an_error_is_a_line_with_its_remedy():
    assert error_line(Refused("a", "b")) == b'{"error": "a", "remedy": "b"}\n'


async def test_what_a_slow_watcher_has_no_room_for_is_counted_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(control_wire, "MAX_WAITING_ENTRIES", 2)
    feed = feed_of("disk0")
    for number in (1, 2, 3, 4):
        feed.noted(noted(number))
    assert await feed.next() == entry_record(noted(1).entry)
    assert await feed.next() == entry_record(noted(2).entry)
    feed.noted(noted(5))
    assert await feed.next() == {"left_out": 2}
    assert await feed.next() == entry_record(noted(5).entry)


async def test_watcher_is_not_told_of_other_units():
    feed = feed_of("disk0")
    feed.noted(noted(1, "disk1"))
    feed.noted(noted(2))
    assert await feed.next() == entry_record(noted(2).entry)
