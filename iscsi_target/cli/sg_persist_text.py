"""Says what is reserved in the words of sg_persist 1.46, which programs read: KubeVirt, fence_scsi, people's scripts.

Each function returns the lines that sg_persist prints for one of its options. No word, no blank and no line is ours; a
type of reservation has the same name there as here.

Source: SPC4r37 6.15 (what the numbers mean)
"""

from collections.abc import Mapping

from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservations import Reservation, Reservations

# The types in the order of the type mask, and the field of the mask that each has
_MASK = {
    ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS: "wr_ex_ar",
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: "ex_ac_ro",
    ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY: "wr_ex_ro",
    ReservationType.EXCLUSIVE_ACCESS: "ex_ac",
    ReservationType.WRITE_EXCLUSIVE: "wr_ex",
    ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS: "ex_ac_ar",
}
_CAPABILITIES = {
    "Replace Lost Reservation Capable(RLR_C)": "rlr_c",
    "Compatible Reservation Handling(CRH)": "crh",
    "Specify Initiator Ports Capable(SIP_C)": "sip_c",
    "All Target Ports Capable(ATP_C)": "atp_c",
    "Persist Through Power Loss Capable(PTPL_C)": "ptpl_c",
    "Type Mask Valid(TMV)": "tmv",
    "Allow Commands": "allow_commands",
    "Persist Through Power Loss Active(PTPL_A)": "ptpl_a",
}


def inquiry(*, vendor: str, product: str, revision: str) -> list[str]:
    """Returns what comes before everything else."""
    return [f"  {vendor:<8.8}  {product:<16.16}  {revision:<4.4}", "  Peripheral device type: disk"]


def read_keys(state: Reservations) -> list[str]:
    """Returns what -k prints."""
    keys = [f"    {key:#x}" for key in state.registrations.values()]
    if not keys:
        told = "there are NO registered reservation keys"
    elif len(keys) == 1:
        told = "1 registered reservation key follows:"
    else:
        told = f"{len(keys)} registered reservation keys follow:"
    return [f"  PR generation={state.generation:#x}, {told}", *keys]


def read_reservation(state: Reservations) -> list[str]:
    """Returns what -r prints."""
    generation = f"  PR generation={state.generation:#x}, "
    if state.reservation is None:
        return [f"{generation}there is NO reservation held"]
    key = f"    Key={state.reservation_key:#x}"
    return [f"{generation}Reservation follows:", key, f"    {_scope_and_type(state.reservation)}"]


def read_full_status(state: Reservations, relative_identifiers: Mapping[TargetPort, int]) -> list[str]:
    """Returns what -s prints.

    relative_identifiers   of the target ports that there are
    """
    lines = [f"  PR generation={state.generation:#x}"]
    if not state.registrations:
        lines.append("  No full status descriptors")
    for nexus, key in state.registrations.items():
        lines += [
            f"    Key={key:#x}",
            "      All target ports bit clear",
            f"      Relative port address: {relative_identifiers.get(nexus.target_port, 0):#x}",
        ]
        if state.reservation is not None and state.holds(nexus):
            lines += ["      << Reservation holder >>", f"      {_scope_and_type(state.reservation)}"]
        else:
            lines.append("      not reservation holder")
        lines += [
            "      Transport Id of initiator:",
            f"        iSCSI world wide unique port id: {nexus.initiator_port}",
        ]
    return lines


def report_capabilities(capabilities: CapabilitiesData) -> list[str]:
    """Returns what -c prints."""
    lines = ["Report capabilities response:"]
    lines += [f"  {words}: {int(getattr(capabilities, name))}" for words, name in _CAPABILITIES.items()]
    if capabilities.tmv:
        lines.append("    Support indicated in Type mask:")
        lines += [f"      {kind}: {int(getattr(capabilities, name))}" for kind, name in _MASK.items()]
    return lines


def _scope_and_type(reservation: Reservation) -> str:
    return f"scope: LU_SCOPE,  type: {reservation.type}"
