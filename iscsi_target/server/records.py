"""What the control socket tells of units and pools, as JSON objects."""

from collections.abc import Mapping

from iscsi_target.scsi.commands.persistent_reserve_in import report_capabilities
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.reservation_record import Record, nexus_record, to_record
from iscsi_target.scsi.state.device import Device
from iscsi_target.server.pools import Pools
from iscsi_target.server.units import OpenUnit


def reservations_record(device: Device) -> Record:
    """Returns everything there is to know of a unit's reservations at this moment."""
    identity, personality, holder = device.identity, device.personality, device.spc2_reservation.holder
    capabilities = CapabilitiesData.unpack(report_capabilities(device.reservations, personality))
    return {
        "identity": {"vendor": identity.vendor, "product": identity.product, "revision": identity.revision},
        "personality": personality.name,
        "has_persistent_reservations": bool(personality.in_actions),
        "capabilities": {name: getattr(capabilities, name) for name in CapabilitiesData.fields},
        "ports": [
            {
                "target": port.name,
                "portal_group_tag": port.portal_group_tag,
                "relative_identifier": numbers.relative_identifier,
            }
            for port, numbers in device.ports.items()
        ],
        "spc2_holder": None if holder is None else nexus_record(holder),
        "reservations": to_record(device.reservations),
    }


def groups_record(device: Device) -> list[Record]:
    """Returns the target port groups that lead to a unit, their states, and the ports in them."""
    return [
        {
            "group": number,
            "state": str(group.state),
            "goal": str(group.goal),
            "preferred": group.preferred,
            "changed": group.status_code.name.lower(),
            "ports": [
                {
                    "target": port.name,
                    "portal_group_tag": port.portal_group_tag,
                    "relative_identifier": identity.relative_identifier,
                }
                for port, identity in device.ports.items()
                if identity.port_group == number
            ],
        }
        for number, group in device.port_groups.items()
    ]


def registration_record(nexus: Nexus, key: int) -> Record:
    """Returns who is registered with which key."""
    return {**(nexus_record(nexus) or {}), "key": f"{key:#x}"}


def pool_record(pools: Pools, name: str, units: Mapping[str, OpenUnit]) -> Record:
    """Returns how full a pool is, and what each of its units has allocated.

    units    all that are served, by name
    """
    pool = pools.by_name[name]
    return {
        "pool": name,
        "size_bytes": pool.size_bytes,
        "used_bytes": pool.used_bytes,
        "used_percent": round(100 * pool.used_bytes / pool.size_bytes, 1),
        "available_bytes": pool.available_bytes,
        "soft_threshold": pools.soft_threshold(name),
        "fill": pools.fill(name).name.lower(),
        "units": [
            {"unit": unit, "used_bytes": opened.room.used_bytes}
            for unit, opened in units.items()
            if opened.room is not None and opened.room.pool is pool
        ],
    }
