"""What the control socket tells of pools; what it tells of units is in test_control."""

from pathlib import Path

from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PoolEntry, PortalGroup, TargetEntry, Unit
from iscsi_target.scsi.layouts.block_cdb import Write16
from iscsi_target.server.server import Server
from tests.endtoend.wire_initiator import session
from tests.unit.server.test_control import ask

MIB = 1 << 20


async def test_pool_tells_how_full_it_is_and_of_what(tmp_path: Path):
    configuration = Configuration(
        state=tmp_path,
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(
            Unit("a", Backing.RAM, None, 4 * MIB, pool="shared"),
            Unit("b", Backing.RAM, None, 4 * MIB, pool="shared"),
            Unit("c", Backing.RAM, None, 4 * MIB),
        ),
        targets=(TargetEntry("iqn.2026-11.org.example:t", {0: "a", 1: "b", 2: "c"}),),
        pools=(PoolEntry("shared", 2 * MIB, 50), PoolEntry("empty", MIB)),
    )
    empty = {"pool": "empty", "size_bytes": MIB, "used_bytes": 0, "used_percent": 0.0, "available_bytes": MIB}
    empty |= {"soft_threshold": None, "fill": "normal", "units": []}
    shared = {"pool": "shared", "size_bytes": 2 * MIB, "soft_threshold": 50}
    shared |= {"used_bytes": 0, "used_percent": 0.0, "available_bytes": 2 * MIB, "fill": "normal"}
    async with Server(configuration) as server:
        [before] = await ask(tmp_path, {"request": "pools"})
        assert before["pools"] == [shared | {"units": [_used("a", 0), _used("b", 0)]}, empty]
        async with session(server.url("b")) as initiator:
            await initiator.ready()
            await initiator.execute(Write16(lba=0, transfer_length=2048), bytes(MIB))
            [after] = await ask(tmp_path, {"request": "pools"})
            shared |= {"used_bytes": MIB, "used_percent": 50.0, "available_bytes": MIB}
            shared["fill"] = "soft_threshold_reached"
            assert after["pools"] == [shared | {"units": [_used("a", 0), _used("b", MIB)]}, empty]
            await initiator.ready()
            await initiator.execute(Write16(lba=2048, transfer_length=2048), bytes(MIB))
            [full] = await ask(tmp_path, {"request": "pools"})
            assert (full["pools"][0]["fill"], full["pools"][0]["used_percent"]) == ("full", 100.0)


def _used(unit: str, used_bytes: int) -> dict[str, object]:
    return {"unit": unit, "used_bytes": used_bytes}
