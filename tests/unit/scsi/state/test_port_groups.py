"""The states of target port groups, as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.state.port_groups import (
    ENTERABLE,
    SETTABLE,
    AccessState,
    PortGroup,
    StatusCode,
    arrived,
    departed,
)

OPTIMIZED, SLOWER, STANDBY = AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED, AccessState.STANDBY
BY_COMMAND, IMPLICITLY = StatusCode.BY_COMMAND, StatusCode.IMPLICITLY

groups = st.dictionaries(
    st.integers(1, 4),
    st.builds(
        PortGroup,
        goal=st.sampled_from(list(ENTERABLE.values())),
        transitioning=st.just(False),
        transition_s=st.sampled_from((0.0, 2.0)),
        delay_s=st.sampled_from((0.0, 0.1)),
    ),
)


def test_states_are_written_as_the_standard_names_them():
    assert list(ENTERABLE) == ["active/optimized", "active/non-optimized", "standby", "unavailable", "offline"]
    assert set(ENTERABLE.values()) > SETTABLE


def test_only_the_active_states_process_every_command():
    assert [state for state in AccessState if state.is_active] == [OPTIMIZED, SLOWER]


@pytest.mark.clause("SPC4r37 5.15.2.6")
def test_a_change_that_lasts_is_a_transition_and_then_the_state():
    before = {1: PortGroup(transition_s=2.0), 2: PortGroup()}
    under_way = departed(before, {1: STANDBY, 2: SLOWER}, BY_COMMAND)
    assert [group.state for group in under_way.values()] == [AccessState.TRANSITIONING, SLOWER]
    over = arrived(under_way, {1: STANDBY, 2: SLOWER})
    assert [group.state for group in over.values()] == [STANDBY, SLOWER]
    assert {group.status_code for group in over.values()} == {BY_COMMAND}


def test_a_group_that_has_been_sent_on_arrives_at_its_last_goal():
    first = departed({1: PortGroup(transition_s=2.0)}, {1: STANDBY}, IMPLICITLY)
    second = departed(first, {1: SLOWER}, IMPLICITLY)
    assert arrived(second, {2})[1].state is AccessState.TRANSITIONING
    assert arrived(second, {1})[1].state is SLOWER


def test_only_a_non_optimized_path_holds_commands_back():
    for state in AccessState:
        group = PortGroup(goal=state, delay_s=0.5)
        assert group.held_back_s == (0.5 if state is SLOWER else 0)
        assert group.is_quick == (state is OPTIMIZED)
    assert PortGroup(goal=SLOWER).is_quick


@given(groups, st.data())
def test_a_change_concerns_those_that_it_names(before, data):
    """Law: after departing and arriving every named group is where it was to be, and no other has changed."""
    wanted = {
        number: data.draw(st.sampled_from(list(ENTERABLE.values()))) for number in before if data.draw(st.booleans())
    }
    after = arrived(departed(before, wanted, IMPLICITLY), wanted)
    assert after.keys() == before.keys()
    for number, group in after.items():
        assert group.state is wanted.get(number, before[number].state)
        if wanted.get(number, before[number].goal) is before[number].goal:
            assert group == before[number]
        else:
            assert group.status_code is IMPLICITLY
