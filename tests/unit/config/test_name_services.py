"""`[isns]` and `[slp]` in a configuration file."""

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import IsnsEntry, SlpEntry, StatusTransport
from tests.unit.config.conftest import Find


def test_without_the_tables_there_is_no_name_service(find: Find):
    found = find("").configuration
    assert found is not None
    assert found.isns is None
    assert found.slp is None


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ('server = "192.0.2.1"', IsnsEntry(Address("192.0.2.1", 3205))),
        ('server = "[2001:db8::1]:9"\nentity = "host"', IsnsEntry(Address("2001:db8::1", 9), "host")),
        (
            'server = "isns.example.org"\nregistration_period = 30\nesi_interval = 5\n'
            'status_transport = "tcp"\nstatus_port = 3206',
            IsnsEntry(Address("isns.example.org", 3205), "", 30, 5, StatusTransport.TCP, 3206),
        ),
    ],
)
def test_table_becomes_an_entry(find: Find, text: str, entry: IsnsEntry):
    found = find(f"[isns]\n{text}\n")
    assert found.mistakes == ()
    assert found.configuration is not None
    assert found.configuration.isns == entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "isns.server is missing; add server ="),
        ("server = 1", "isns.server is not a text; write server = "),
        ('server = "::1"', "is an IPv6 address without brackets; write server = "),
        ('server = "a:0"', "isns.server 'a:0' has port 0; leave the port out for 3205"),
        ('server = "a"\nentity = "e"', "isns.entity 'e' has not 3 to 255 bytes; write a name that no other host has"),
        ('server = "a"\nentity = "a\\u0007bc"', "isns.entity has a control character; write a name of this host"),
        ('server = "a"\nregistration_period = 1', "isns.registration_period is less than 10; write 10 or more"),
        ('server = "a"\nstatus_transport = "sctp"', "is not 'udp', 'tcp' or 'none'; write 'udp', 'tcp' or 'none'"),
        ('server = "a"\nstatus_port = 70000', "isns.status_port is more than 65535; write 65535 or less"),
        (
            'server = "a"\nstatus_transport = "none"\nstatus_port = 1',
            "isns.status_transport is none, so nothing arrives; leave out esi_interval and status_port",
        ),
        ('server = "a"\nsever = "b"', "isns.sever is unknown; did you mean server?"),
    ],
)
def test_mistake_is_told_with_line_key_and_remedy(find: Find, text: str, expected: str):
    [mistake] = find(f"[isns]\n{text}\n").mistakes
    assert expected in mistake
    assert "config.toml:" in mistake


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("", SlpEntry()),
        (
            'listen = ["127.0.0.1:4427", "[::1]"]\nscopes = ["lab", "Room 1"]\nlifetime = 60\nmulticast = false',
            SlpEntry((Address("127.0.0.1", 4427), Address("::1", 427)), ("lab", "Room 1"), 60, multicast=False),
        ),
    ],
)
def test_slp_table_becomes_an_entry(find: Find, text: str, entry: SlpEntry):
    found = find(f"[slp]\n{text}\n")
    assert found.mistakes == ()
    assert found.configuration is not None
    assert found.configuration.slp == entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listen = [1]", 'slp.listen[0] is not a text; write "0.0.0.0" or'),
        ('listen = ["::1"]', "is an IPv6 address without brackets; write "),
        ('listen = ["a", "a:427"]', "slp.listen names an address twice; drop one of them"),
        ("listen = []", "slp.listen is empty"),
        ('scopes = ["a,b"]', "slp.scopes[0] 'a,b' is not a scope; use letters, digits, spaces, hyphens and dots"),
        ('scopes = [" "]', "is not a scope"),
        (f'scopes = ["{"a" * 33}"]', "has more than 32 characters; shorten it"),
        (f"scopes = {[str(number) for number in range(17)]}", "slp.scopes has more than 16 scopes; drop some"),
        ("lifetime = 0", "slp.lifetime is less than 1; write 1 or more"),
        ("lifetime = 70000", "slp.lifetime is more than 65535; write 65535 or less"),
        ("scope = []", "slp.scope is unknown; did you mean scopes?"),
    ],
)
def test_mistake_of_slp_is_told_with_line_key_and_remedy(find: Find, text: str, expected: str):
    [mistake] = find(f"[slp]\n{text}\n").mistakes
    assert expected in mistake
    assert "config.toml:" in mistake
