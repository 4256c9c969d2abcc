import pytest

from iscsi_target.config.address import Address


@pytest.mark.parametrize(
    "address, printed",
    [(Address("192.0.2.1", 3260), "192.0.2.1:3260"), (Address("::1", 0), "[::1]:0"), (Address("host", 1), "host:1")],
)
def test_address_prints_with_brackets_only_around_ipv6(address, printed):
    assert str(address) == printed
