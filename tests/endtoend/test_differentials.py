"""The comparison with LIO, with the personality in the place of the real one: that differs from itself in nothing."""

import asyncio
from pathlib import Path

import iscsi_target
from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from tools.differentials.cases import cases
from tools.differentials.collection import Collected, collect
from tools.differentials.judgements import ruling
from tools.differentials.laboratory import IMITATION, TARGET, UNIT_BYTES, sides
from tools.differentials.seeded import seeded
from tools.differentials.side import Place, play_on
from tools.guests.machine import free_port

SEQUENCES = [*list(cases())[::12], *map(seeded, range(30))]


async def _differences(state: Path) -> tuple[Collected, Collected]:
    ports = {1: free_port(), 2: free_port()}
    configuration = Configuration(
        state=state,
        portal_groups=tuple(PortalGroup(tag, (Address("127.0.0.1", port),)) for tag, port in ports.items()),
        units=(Unit("disk", Backing.RAM, None, UNIT_BYTES, personality=IMITATION),),
        targets=(TargetEntry(TARGET, {0: "disk"}, portal_groups=tuple(ports)),),
    )
    strict: Collected = {}
    imitation: Collected = {}
    async with iscsi_target.serve(configuration), sides(Place(ports, TARGET)) as all_sides:
        for sequence in SEQUENCES:
            theirs, ours, its = await play_on(all_sides, sequence)
            collect(strict, sequence, ours, theirs)
            collect(imitation, sequence, its, theirs)
    return strict, imitation


def test_a_personality_differs_from_itself_in_nothing(tmp_path: Path) -> None:
    strict, imitation = asyncio.run(_differences(tmp_path))
    assert imitation == {}
    assert strict
    assert [kind for kind in strict if ruling(kind) is None] == []
