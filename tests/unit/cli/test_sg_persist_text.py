"""The text of sg_persist 1.46, compared with what it printed for the same parameter data."""

import pytest

from iscsi_target.cli.sg_persist_text import (
    inquiry,
    read_full_status,
    read_keys,
    read_reservation,
    report_capabilities,
)
from iscsi_target.scsi.commands.persistent_reserve_in import report_capabilities as packed_capabilities
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations

NODE = "iqn.2026-01.org.example:t"
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes.fromhex("800000000001")), TargetPort(NODE, 1))
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes.fromhex("800000000002")), TargetPort(NODE, 2))
RELATIVE = {A.target_port: 17}
NOBODY = Reservations()
BOTH = {A: 0x12345678, B: 0xFFFF_FFFF_FFFF_FFFF}


def held(kind: ReservationType) -> Reservations:
    holder = None if kind.all_registrants else A
    return Reservations(BOTH, Reservation(kind, holder, Cause("RESERVE", A, 0.0)), generation=0x1C)


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_inquiry_data_is_padded_to_its_width():
    lines = inquiry(vendor="ISCSITGT", product="Virtual disk", revision="1")
    assert lines == ["  ISCSITGT  Virtual disk      1   ", "  Peripheral device type: disk"]


def test_no_key():
    assert text(read_keys(NOBODY)) == "  PR generation=0x0, there are NO registered reservation keys\n"


def test_one_key():
    assert text(read_keys(Reservations({A: 0x12345678}, generation=1))) == (
        "  PR generation=0x1, 1 registered reservation key follows:\n    0x12345678\n"
    )


def test_several_keys():
    assert text(read_keys(Reservations(BOTH, generation=2))) == (
        "  PR generation=0x2, 2 registered reservation keys follow:\n    0x12345678\n    0xffffffffffffffff\n"
    )


def test_no_reservation():
    assert text(read_reservation(NOBODY)) == "  PR generation=0x0, there is NO reservation held\n"


@pytest.mark.parametrize(
    "kind, key, name",
    [
        (1, "0x12345678", "Write Exclusive"),
        (3, "0x12345678", "Exclusive Access"),
        (5, "0x12345678", "Write Exclusive, registrants only"),
        (6, "0x12345678", "Exclusive Access, registrants only"),
        (7, "0x0", "Write Exclusive, all registrants"),
        (8, "0x0", "Exclusive Access, all registrants"),
    ],
)
@pytest.mark.clause("SPC4r37 6.15.3")
def test_reservation_of_every_type(kind: int, key: str, name: str):
    assert text(read_reservation(held(ReservationType(kind)))) == (
        f"  PR generation=0x1c, Reservation follows:\n    Key={key}\n    scope: LU_SCOPE,  type: {name}\n"
    )


def test_full_status_of_nobody():
    assert text(read_full_status(NOBODY, RELATIVE)) == "  PR generation=0x0\n  No full status descriptors\n"


@pytest.mark.clause("SPC4r37 6.15.5")
def test_full_status_has_holder_ports_and_names():
    assert text(read_full_status(held(ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY), RELATIVE)) == (
        "  PR generation=0x1c\n"
        "    Key=0x12345678\n"
        "      All target ports bit clear\n"
        "      Relative port address: 0x11\n"
        "      << Reservation holder >>\n"
        "      scope: LU_SCOPE,  type: Write Exclusive, registrants only\n"
        "      Transport Id of initiator:\n"
        "        iSCSI world wide unique port id: iqn.2026-01.org.example:a,i,0x800000000001\n"
        "    Key=0xffffffffffffffff\n"
        "      All target ports bit clear\n"
        "      Relative port address: 0x0\n"
        "      not reservation holder\n"
        "      Transport Id of initiator:\n"
        "        iSCSI world wide unique port id: iqn.2026-01.org.example:b,i,0x800000000002\n"
    )


def test_every_registrant_holds_an_all_registrants_reservation():
    lines = read_full_status(held(ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS), RELATIVE)
    assert lines.count("      << Reservation holder >>") == 2


@pytest.mark.clause("SPC4r37 6.15.4")
def test_capabilities():
    packed = packed_capabilities(Reservations({A: 1}, aptpl=True), STRICT)
    assert text(report_capabilities(CapabilitiesData.unpack(packed))) == (
        "Report capabilities response:\n"
        "  Replace Lost Reservation Capable(RLR_C): 1\n"
        "  Compatible Reservation Handling(CRH): 1\n"
        "  Specify Initiator Ports Capable(SIP_C): 1\n"
        "  All Target Ports Capable(ATP_C): 1\n"
        "  Persist Through Power Loss Capable(PTPL_C): 1\n"
        "  Type Mask Valid(TMV): 1\n"
        "  Allow Commands: 4\n"
        "  Persist Through Power Loss Active(PTPL_A): 1\n"
        "    Support indicated in Type mask:\n"
        "      Write Exclusive, all registrants: 1\n"
        "      Exclusive Access, registrants only: 1\n"
        "      Write Exclusive, registrants only: 1\n"
        "      Exclusive Access: 1\n"
        "      Write Exclusive: 1\n"
        "      Exclusive Access, all registrants: 1\n"
    )


def test_types_are_left_out_when_the_mask_is_not_valid():
    assert len(report_capabilities(CapabilitiesData(tmv=False))) == 9
