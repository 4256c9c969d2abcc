"""Requests by the control socket that are about no unit: faults and targets, asked as the command line does."""

import asyncio
from contextlib import aclosing
from functools import partial

import pytest

from iscsi_target.cli.control_client import ask, ask_once
from iscsi_target.config.values import DEFAULT_TARGET_NAME, ConfigError, ram_configuration
from iscsi_target.server.server import Server
from iscsi_target.target import FaultFired

RULE = "on scsi-command where nth=2: answer busy"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
async def server(state):
    async with Server(ram_configuration(state, 1 << 20)) as running:
        yield running


async def answer(directory, **request):
    return await asyncio.to_thread(ask_once, directory, request)


async def test_faults_are_added_counted_and_removed(server, state):
    assert await answer(state, request="add_fault", rule=RULE, name="second") == {"added": "second"}
    assert await answer(state, request="add_fault", rule="on in where nth=99: drop") == {"added": "1"}
    first, _ = (await answer(state, request="faults"))["faults"]
    assert first == {"name": "second", "rule": RULE, "matched": 0, "fired": 0}
    left = await answer(state, request="remove_faults", names=["second"])
    assert [fault["name"] for fault in left["faults"]] == ["1"]
    assert await answer(state, request="clear_faults") == {"faults": []}


async def watched(state):
    """Yields what one is told who watches faults."""
    answers = ask(state, {"request": "watch_faults"})
    while True:
        yield await asyncio.to_thread(partial(next, answers, None))


async def test_one_who_watches_faults_is_told_of_each_that_fires(server, state):
    async with aclosing(watched(state)) as watching:
        assert await anext(watching) == {"watching": "faults"}
        fired = FaultFired(3, "1", "on in: drop", "nop-out", 7, 1)
        [observer] = server.faults.observers
        observer(fired)
        assert await anext(watching) == fired._asdict()


async def test_a_target_is_taken_offline(server, state):
    order = {"request": "set_target", "target": DEFAULT_TARGET_NAME, "state": "offline"}
    assert await answer(state, **order) == {"targets": server.targets.records()}
    assert [target["standing"] for target in server.targets.records()] == ["offline"]
    assert await answer(state, request="targets") == {"targets": server.targets.records()}
    with pytest.raises(ConfigError, match="is no state of a target"):
        await answer(state, **order | {"state": "gone"})
