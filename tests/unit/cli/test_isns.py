"""What `iscsi-target isns` says about its options; that it runs is for the end-to-end tests."""

import pytest

from iscsi_target.cli import main


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--listen", "::1"], "--listen: '::1' is an IPv6 address without brackets; write HOST or HOST:PORT"),
        (["--registration-period", "0"], "--registration-period: is out of range; write seconds, 1 to 2592000"),
        (["--esi-min-interval", "4000"], "--esi-min-interval: is out of range; write seconds, 1 to 3600"),
        (["--control", "operator"], "--control: 'operator' is not an iSCSI name: iqn., eui. or naa."),
        (["--listen", "192.0.2.1:0"], "no interface of this host has the address"),
    ],
)
def test_wrong_option_is_one_line_and_exit_status_2(capsys, options, line):
    assert main(["isns", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1
