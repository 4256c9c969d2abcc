"""The tools of libiscsi discover, log in, inquire and switch, in every way to log in."""

import re

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import NAME, SIZE_BYTES, Serve
from tests.endtoend.initiators import LOGINS, Initiators, attempt

MANDATORY_PAGES = {0x00, 0x80, 0x83, 0x86, 0x87, 0xB0, 0xB1, 0xB2}
# iscsi-inq 1.19 knows no layout for these: it gets the page, says so and ends with exit code 10.
PAGES_UNKNOWN_TO_THE_TOOL = {0x86, 0x87, 0x8F}
CHAP = next(login for login in LOGINS if login.name == "chap")
MUTUAL = next(login for login in LOGINS if login.name.startswith("mutual"))


def test_discovery_lists_the_target_and_its_units_with_their_sizes(initiators: Initiators, tool: Tool) -> None:
    listed = initiators.list_units(tool("iscsi-ls"))
    assert f"Target:{NAME} Portal:" in listed
    for unit in range(4):
        assert re.search(rf"Lun:{unit} +Type:DIRECT_ACCESS \(Size:6[34]M\)", listed), listed


def test_discovery_lists_every_portal(initiators: Initiators, tool: Tool) -> None:
    listed = initiators.list_units(tool("iscsi-ls"))
    assert len(initiators.target.portals) == 2
    for number, portal in enumerate(initiators.target.portals):
        assert f"Portal:{portal},{number + 1}\n" in listed


def test_standard_inquiry_is_of_a_connected_disk(initiators: Initiators, tool: Tool) -> None:
    printed = initiators.libiscsi(tool("iscsi-inq"))
    assert "Peripheral Qualifier:CONNECTED" in printed
    assert "Peripheral Device Type:DIRECT_ACCESS" in printed
    assert re.search(r"Vendor:\S+", printed)
    assert re.search(r"Product:\S+", printed)


def test_every_listed_vital_product_data_page_can_be_read(initiators: Initiators, tool: Tool) -> None:
    inquire = tool("iscsi-inq")
    listed = [
        int(page, 16) for page in re.findall(r"Page:0x(\w\w)", initiators.libiscsi(inquire, "-e", "1", "-c", "0"))
    ]
    assert set(listed) >= MANDATORY_PAGES
    assert listed == sorted(listed)
    for page in listed:
        finished = initiators.attempt_libiscsi(inquire, "-e", "1", "-c", str(page))
        if page in PAGES_UNKNOWN_TO_THE_TOOL:
            assert finished.errors == "failed to unmarshall inquiry datain blob\n"
        else:
            assert finished.exit_code == 0
            assert finished.output.strip(), f"page {page:02X}: {finished.errors}"


def test_capacity_is_that_of_the_configuration(initiators: Initiators, tool: Tool) -> None:
    assert initiators.libiscsi(tool("iscsi-readcapacity16"), "-s").strip() == str(SIZE_BYTES)
    printed = initiators.libiscsi(tool("iscsi-readcapacity16"))
    assert f"RETURNED LOGICAL BLOCK ADDRESS:{SIZE_BYTES // 512 - 1}" in printed
    assert "LOGICAL BLOCK LENGTH IN BYTES:512" in printed


def test_software_write_protect_can_be_switched(initiators: Initiators, tool: Tool) -> None:
    switch = tool("iscsi-swp")
    assert initiators.libiscsi(switch, "-s", "on").splitlines() == ["SWP:0", "Turning SWP ON"]
    assert initiators.libiscsi(switch).splitlines() == ["SWP:1"]
    initiators.libiscsi(switch, "-s", "off")
    assert initiators.libiscsi(switch).splitlines() == ["SWP:0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"LIBISCSI_CHAP_USERNAME": "initiator", "LIBISCSI_CHAP_PASSWORD": "not-the-secret!!"},
        {"LIBISCSI_CHAP_USERNAME": "nobody", "LIBISCSI_CHAP_PASSWORD": "secret-of-initiator"},
        {},
    ],
    ids=["secret", "user", "none"],
)
def test_wrong_credentials_are_refused(serve: Serve, tool: Tool, wrong: dict[str, str]) -> None:
    target = serve(CHAP)
    finished = attempt([tool("iscsi-inq"), target.url()], wrong)
    assert finished.exit_code != 0
    assert "DIRECT_ACCESS" not in finished.output
    assert "DIRECT_ACCESS" in Initiators(target, CHAP).libiscsi(tool("iscsi-inq"))


def test_an_initiator_that_expects_another_target_secret_goes_away(serve: Serve, tool: Tool) -> None:
    target = serve(MUTUAL)
    wrong = dict(MUTUAL.environment) | {"LIBISCSI_CHAP_TARGET_PASSWORD": "not-the-secret!!"}
    assert attempt([tool("iscsi-inq"), target.url()], wrong).exit_code != 0
