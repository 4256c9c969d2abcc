"""Whatever personality a unit has, and however often it changes: the state stays sound and refusals change nothing."""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import OutAction, Personality
from iscsi_target.scsi.reservations.reservation_request import Request, Transition
from iscsi_target.scsi.reservations.reservations import Cause, Reservations
from iscsi_target.scsi.reservations.transitions import GENERATIONS, apply
from iscsi_target.scsi.status import StatusError

PORTS = [TargetPort("iqn.2026-01.org.example:disks", tag) for tag in (1, 2)]
INITIATORS = [InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)) for name in "abc"]
NEXUSES = [Nexus(initiator, port) for initiator in INITIATORS for port in PORTS]

KEYS = st.integers(0, 3)
Step = tuple[Nexus, Request, Personality]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    nexus = draw(st.sampled_from(NEXUSES))
    action = draw(st.sampled_from(OutAction))
    registers = action in (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)
    siblings = [Nexus(nexus.initiator_port, port) for port in PORTS if port != nexus.target_port]
    listed = draw(st.lists(st.sampled_from(NEXUSES), unique=True, max_size=2)) if action is OutAction.REGISTER else []
    request = Request(
        action=action,
        cause=Cause("PERSISTENT RESERVE OUT", nexus, 0.0),
        reservation_key=draw(KEYS),
        service_action_reservation_key=draw(KEYS),
        scope=draw(st.sampled_from([0, 0, 0, 1])),
        type=draw(st.sampled_from([0, 1, 3, 5, 6, 7, 8])),
        spec_i_pt=bool(listed),
        siblings=tuple(siblings) if registers and draw(st.booleans()) else (),
        listed=tuple(each for each in listed if each.initiator_port != nexus.initiator_port),
        destination=draw(st.sampled_from(NEXUSES)),
        unregister=draw(st.booleans()),
    )
    return nexus, request, draw(st.sampled_from([each for each in PERSONALITIES.values() if each.out_actions]))


def is_sound(state: Reservations) -> bool:
    """Keys are not zero, and a reservation has a holder that is registered."""
    if not all(state.registrations.values()) or not 0 <= state.generation < GENERATIONS:
        return False
    if state.reservation is None:
        return True
    if state.reservation.type.all_registrants:
        return state.reservation.holder is None and bool(state.registrations)
    return state.reservation.holder in state.registrations and bool(state.reservation_key)


def outcome(state: Reservations, step: Step) -> Transition | None:
    nexus, request, personality = step
    if request.action not in personality.out_actions:
        return None
    try:
        return apply(state, nexus, request, personality)
    except StatusError:
        return None


@given(st.lists(steps(), max_size=40))
def test_state_is_sound_after_every_step_of_any_personality(history: list[Step]) -> None:
    state = Reservations()
    for step in history:
        transition = outcome(state, step)
        if transition is None:
            continue
        gone = {nexus for nexus in state.registrations if nexus not in transition.state.registrations}
        assert set(transition.removed) == gone
        assert 0 <= transition.state.generation - state.generation <= len(NEXUSES) + 1
        state = transition.state
        assert is_sound(state)


@given(st.lists(steps(), max_size=20), steps())
def test_only_a_registrant_removes_another_registration(history: list[Step], last: Step) -> None:
    """No imitation lets a stranger unfence or unregister: what it may do is register itself and those it lists."""
    state = Reservations()
    for step in history:
        transition = outcome(state, step)
        state = state if transition is None else transition.state
    nexus, request, _ = last
    transition = outcome(state, last)
    if transition is not None and nexus not in state.registrations:
        own = {nexus, *request.siblings}
        assert set(transition.removed) <= own
        assert transition.state.reservation == state.reservation or set(transition.removed) & own
