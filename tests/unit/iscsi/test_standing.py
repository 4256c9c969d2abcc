"""How a target stands towards logins."""

import pytest

from iscsi_target.iscsi.errors import LoginRefused
from iscsi_target.iscsi.standing import OFFLINE, ONLINE, Standing, moved_to

TEMPORARILY, PERMANENTLY = (moved_to("192.0.2.2:3260", permanent=permanent) for permanent in (False, True))


def test_a_target_that_is_online_refuses_nobody():
    ONLINE.check("iqn.x")
    assert ONLINE.admits


@pytest.mark.clause("RFC7143 11.13.5")
@pytest.mark.parametrize(
    "standing, status, address",
    [(OFFLINE, 0x0301, ""), (TEMPORARILY, 0x0101, "192.0.2.2:3260"), (PERMANENTLY, 0x0102, "192.0.2.2:3260")],
)
def test_others_are_refused_with_the_status_of_the_standard(standing: Standing, status: int, address: str):
    assert not standing.admits
    with pytest.raises(LoginRefused) as refused:
        standing.check("iqn.x")
    assert (refused.value.status_class << 8 | refused.value.status_detail, refused.value.address) == (status, address)
    assert "iqn.x" in refused.value.reason


def test_a_person_reads_how_a_target_stands():
    assert [str(each) for each in (ONLINE, OFFLINE, TEMPORARILY, PERMANENTLY)] == [
        "online",
        "offline",
        "moved temporarily to 192.0.2.2:3260",
        "moved permanently to 192.0.2.2:3260",
    ]
