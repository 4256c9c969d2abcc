"""What is served without a file, and addresses as people write them."""

from pathlib import Path

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, default_configuration, default_state, parse_address, ram_configuration


def test_default_is_one_unit_on_the_loopback_address():
    configuration = default_configuration(Path("/state"))
    [unit] = configuration.units
    assert (unit.backing, unit.path, unit.size_bytes) == (Backing.FILE, Path("/state/disk0.img"), 1 << 30)
    assert configuration.portal_groups[0].listen == (Address("127.0.0.1", 3260),)
    assert configuration.targets[0].luns == {0: "disk0"}


def test_other_addresses_replace_those_of_the_first_portal_group():
    configuration = ram_configuration(Path("/state"), 4096).listening_at(Address("::1", 1))
    assert configuration.portal_groups[0].listen == (Address("::1", 1),)


@pytest.mark.parametrize(
    "environment, directory",
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/root"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/home/u/state", "HOME": "/home/u"}, "/home/u/state/iscsi-target"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/iscsi-target"),
    ],
)
def test_state_directory_is_where_the_environment_says(environment, directory):
    assert default_state(environment) == Path(directory)


@pytest.mark.parametrize(
    "text, address",
    [
        ("192.0.2.1:860", ("192.0.2.1", 860)),
        ("192.0.2.1", ("192.0.2.1", 3260)),
        ("[::1]:0", ("::1", 0)),
        ("[::1]", ("::1", 3260)),
        ("storage.example:1", ("storage.example", 1)),
    ],
)
def test_address_is_read_as_initiators_write_it(text, address):
    assert parse_address(text) == Address(*address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3260",
        "host:",
        "host:port",
        "host:65536",
        "::1",
        "[::1",
        "[::1]3260",
        "[]:1",
        "[a]:1",
        "a..b:1",
        "a b:1",
        "a\0:1",
        f"host:{'1' * 5000}",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError):
        parse_address(text)
