"""iSCSI names."""

import pytest

from iscsi_target.wire.names import InadmissibleValue, iscsi_name


@pytest.mark.clause("RFC7143 4.2.7.1")
@pytest.mark.parametrize(
    "value, expected",
    [
        ("iqn.2001-04.com.Example:Disk", "iqn.2001-04.com.example:disk"),
        ("iqn.2001-04.com.example:my_disk", "iqn.2001-04.com.example:my_disk"),
        ("EUI.02004567A425678D", "eui.02004567a425678d"),
        ("naa.52004567ba64678d", "naa.52004567ba64678d"),
        ("naa.62004567ba64678d0123456789abcdef", "naa.62004567ba64678d0123456789abcdef"),
        ("iqn.2001-04.com.example:GERÄT", "iqn.2001-04.com.example:gerät"),
    ],
)
def test_names_are_normalised(value, expected):
    assert iscsi_name(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "iqn.",
        "disk",
        "iqn.a b",
        "iqn.a,b",
        "iqn.a=b",
        "eui.1",
        "naa.5200",
        "eui.zzzzzzzzzzzzzzzz",
        "iqn." + "a" * 220,
        "iqn." + "ä" * 110,
        "iqn.\u200b",
    ],
)
def test_what_is_no_name_is_inadmissible(value):
    with pytest.raises(InadmissibleValue):
        iscsi_name(value)
