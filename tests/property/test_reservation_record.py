"""Records of reservations: every state has one and comes back from it, and nothing else is taken for one."""

import copy
import json

from hypothesis import assume, given
from hypothesis import strategies as st

from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservation_record import MAX_KEY, MAX_TIME_S, InvalidRecord, from_record, to_record
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations

NAMES = st.sampled_from(["iqn.2026-01.org.example:a", "iqn.2026-01.org.example:ünïcode", "eui.0123456789abcdef"])
NEXUSES = st.builds(
    Nexus,
    st.builds(InitiatorPort, NAMES, st.binary(min_size=6, max_size=6)),
    st.builds(TargetPort, NAMES, st.integers(0, 0xFFFF)),
)
CAUSES = st.builds(
    Cause,
    st.sampled_from(["PERSISTENT RESERVE OUT, RESERVE", "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"]),
    NEXUSES | st.just(OPERATOR),
    st.floats(0, MAX_TIME_S),
)


@st.composite
def states(draw: st.DrawFn) -> Reservations:
    """Any state that a unit can be in."""
    if draw(st.integers(0, 9)) == 0:
        return Reservations(lost=True)
    registrations = draw(st.dictionaries(NEXUSES, st.integers(1, MAX_KEY), max_size=5))
    reservation = None
    reserved = draw(st.booleans())
    if registrations and reserved:
        kind = draw(st.sampled_from(ReservationType))
        holder = None if kind.all_registrants else draw(st.sampled_from(sorted(registrations)))
        reservation = Reservation(kind, holder, draw(CAUSES))
    return Reservations(registrations, reservation, draw(st.integers(0, 0xFFFF_FFFF)), draw(st.booleans()))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)  # half surrogate pairs too
    | st.sampled_from(["0xa1", "0x0", "80000000000a", "iqn.2026-01.org.example:a", 1, 5, 7])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["registrations", "reservation", "type", "key", "isid"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(record: object, before: tuple = ()) -> list[tuple]:
    """Every place in a JSON value, its own included."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(record, dict):
        inner = list(record.items())
    elif isinstance(record, list):
        inner = list(enumerate(record))
    return [before] + [place for step, value in inner for place in places(value, (*before, step))]


def parent(record: object, place: tuple) -> object:
    for step in place[:-1]:
        record = record[step]  # type: ignore[index]  # the place is one of the record
    return record


def check(record: object) -> None:
    """Refused, or the record of a state that is consistent."""
    try:
        state = from_record(record)
    except InvalidRecord:
        return
    assert to_record(state) == record
    assert all(0 < key <= MAX_KEY for key in state.registrations.values())
    if state.reservation is not None:
        assert any(state.holds(nexus) for nexus in state.registrations)
        assert str(state.reservation.made_by).encode()
    if state.lost:
        assert state == Reservations(lost=True)


@given(states())
def test_state_comes_back_from_json(state: Reservations) -> None:
    """from_record(json(to_record(state))) == state, the order of the registrations too."""
    found = from_record(json.loads(json.dumps(to_record(state))))
    assert found == state
    assert list(found.registrations) == list(state.registrations)


@given(states(), st.data())
def test_one_value_changed_is_refused_or_a_state(state: Reservations, data: st.DataObject) -> None:
    """A record with one value changed, removed or doubled raises InvalidRecord only, or is the record of a state."""
    record = copy.deepcopy(json.loads(json.dumps(to_record(state))))
    place = data.draw(st.sampled_from(places(record)))
    within = parent(record, place)
    how = data.draw(st.sampled_from(["change", "remove", "double"]))
    if not place:
        record = data.draw(JSON)
    elif how == "change":
        within[place[-1]] = data.draw(JSON)  # type: ignore[index]  # it is a table or a list
    elif how == "remove":
        del within[place[-1]]  # type: ignore[attr-defined]  # likewise
    else:
        assume(isinstance(within, list))
        within.append(within[place[-1]])  # type: ignore[attr-defined, index]  # a list
    check(record)


@given(JSON)
def test_any_json_is_refused_or_a_state(found: object) -> None:
    """What is not a record at all raises InvalidRecord and nothing else."""
    check(found)


def test_deeply_nested_json_is_refused() -> None:
    deep: object = None
    for _ in range(50_000):
        deep = [deep]
    check(deep)
    check(to_record(Reservations()) | {"generation": deep, "registrations": [deep]})
