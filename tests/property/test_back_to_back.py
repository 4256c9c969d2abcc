"""The initiator's machine against the target's, in any order of commands, of bytes and of what the medium does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.parameters import FAST_ABORT, RESPONSE_FENCE, RFC3720, Preferences
from tests.back_to_back import World
from tests.back_to_back_steps import MAX_NUMBER, STEPS, release

CONNECTIONS = 3
LENGTHS = st.sampled_from([512, 700, 1024, 4096, 8192])
REPORTING = (RFC3720,), (RESPONSE_FENCE, RFC3720), (FAST_ABORT, RESPONSE_FENCE, RFC3720)
DIGESTS = st.sampled_from([("None",), ("CRC32C",)])


SCHEDULES = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, MAX_NUMBER)), min_size=10, max_size=80)


@st.composite
def settings(draw: st.DrawFn, initial_r2t: bool, immediate_data: bool) -> Settings:
    preferences = Preferences(
        header_digest=draw(DIGESTS),
        data_digest=draw(DIGESTS),
        initial_r2t=initial_r2t,
        immediate_data=immediate_data,
        max_recv_data_segment_length=draw(LENGTHS),
        max_burst_length=draw(LENGTHS),
        first_burst_length=draw(LENGTHS),
        max_outstanding_r2t=draw(st.integers(1, 4)),
        data_pdu_in_order=draw(st.booleans()),
        data_sequence_in_order=draw(st.booleans()),
        max_connections=CONNECTIONS,
        task_reporting=draw(st.sampled_from(REPORTING)),
    )
    return Settings(preferences, first_cmd_sn=draw(st.sampled_from([1, 0xFFFFFFF0])))


@pytest.mark.parametrize("initial_r2t", [True, False])
@pytest.mark.parametrize("immediate_data", [True, False])
@given(data=st.data(), steps=SCHEDULES, segment=LENGTHS)
def test_every_command_ends_and_every_acknowledged_write_is_there(
    initial_r2t: bool, immediate_data: bool, data: st.DataObject, steps: list, segment: int
):
    """Law: whatever is asked for, cut, aborted, sent twice or late, every request is answered or lost with its
    connection; no command goes out beyond the window; no write is done twice; each block holds the last write to it
    that was acknowledged, or one that was not and may have been done; and the target has nothing left.
    """
    ours = Preferences(max_recv_data_segment_length=segment, max_connections=CONNECTIONS, task_reporting=REPORTING[-1])
    world = World(data.draw(settings(initial_r2t, immediate_data)), ours, data.draw(st.integers(1, CONNECTIONS)))
    for step, number in steps:
        step(world, number)
    release(world)
    world.check()
