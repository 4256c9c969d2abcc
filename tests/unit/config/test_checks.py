"""Configuration files: one that is correct, and that one with one thing wrong at a time."""

import stat
from pathlib import Path

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.checks import judge, load, state_directory
from iscsi_target.config.values import Backing, ConfigError, ConfigErrors, PoolEntry

CORRECT = """\
[portal_groups.1]
listen = ["127.0.0.1:3260", "[::1]:3260"]
advertise = ["10.0.2.2:3260"]

[units.disk0]
file = "disk0.img"
size = "1MiB"
block_size = 4096
serial = "0001"
personality = "scst"
write_same = false

[units.ram0]
ram = true
size = 1048576
compare_and_write = false
naa = "naa.3000000000000001"
pool = "shared"

[pools.shared]
size = "10MiB"
soft_threshold = 80

[[targets]]
name = "iqn.2026-11.org.example:disks"
alias = "disks"
portal_groups = [1]
initiators = ["IQN.2026-11.org.example:a"]
luns = { 0 = "disk0", 1 = "ram0" }
chap = [{ user = "u", secret = "abcdefghijkl" }]
mutual_chap = { user = "t", secret_file = "t.secret" }

[discovery]
chap = [{ user = "d", secret = "mnopqrstuvwx" }]

[session]
header_digest = ["CRC32C", "None"]
first_burst_length = "64KiB"
login_timeout = 20
max_connections = 2
error_recovery_level = 1
"""


@pytest.fixture
def path(tmp_path):
    secret = tmp_path / "t.secret"
    secret.write_text("0123456789ab\n")
    secret.chmod(0o600)
    return tmp_path / "config.toml"


@pytest.fixture
def write(path, tmp_path):
    """Writes a text and returns what is found in it."""

    def written(text):
        path.write_text(text)
        path.chmod(0o600)
        return judge(path, tmp_path / "state")

    (tmp_path / "state").mkdir()
    return written


def test_correct_file_becomes_a_configuration(write, tmp_path):
    found = write(CORRECT)
    assert found.mistakes == found.warnings == ()
    configuration = found.configuration
    disk0, ram0 = configuration.units
    assert (disk0.backing, disk0.path, disk0.size_bytes) == (Backing.FILE, tmp_path / "state" / "disk0.img", 1 << 20)
    assert (disk0.block_length_bytes, disk0.physical_block_bytes, disk0.serial) == (4096, 4096, "0001")
    assert (disk0.personality, disk0.vendor) == ("scst", None)
    assert (disk0.compare_and_write, disk0.write_same) == (True, False)
    assert (ram0.backing, ram0.path, ram0.naa) == (Backing.RAM, None, bytes.fromhex("3000000000000001"))
    assert (ram0.compare_and_write, ram0.write_same) == (False, True)
    assert configuration.pools == (PoolEntry("shared", 10 << 20, 80),)
    assert (disk0.pool, ram0.pool) == (None, "shared")
    [group] = configuration.portal_groups
    assert group.listen == (Address("127.0.0.1", 3260), Address("::1", 3260))
    assert group.advertise == (Address("10.0.2.2", 3260),)
    [target] = configuration.targets
    assert (target.name, target.luns) == ("iqn.2026-11.org.example:disks", {0: "disk0", 1: "ram0"})
    assert [(account.user, account.secret) for account in target.authentication.accounts] == [("u", b"abcdefghijkl")]
    assert target.authentication.mutual.secret == b"0123456789ab"
    assert configuration.discovery.required
    assert configuration.preferences.header_digest == ("CRC32C", "None")
    assert configuration.preferences.first_burst_length == 65536
    assert configuration.preferences.max_connections == 2
    assert configuration.preferences.error_recovery_level == 1
    assert configuration.timeouts.login_s == 20
    assert configuration.targets[0].initiators == frozenset({"iqn.2026-11.org.example:a"})


WRONG = [
    ('size = "1MiB"', 'size = "1MB"', "units.disk0.size '1MB' is not a size; write bytes"),
    ('size = "1MiB"', "size = 1000", "units.disk0.size is not a multiple of block_size (4096)"),
    ('size = "1MiB"', "size = 0", "units.disk0.size is not more than 0; write bytes"),
    ('size = "1MiB"', "", "disk0.img does not exist; name an image, or give a size"),
    ('size = "1MiB"', 'size = "1MiB"\nread_only = true', "read_only forbids to create it"),
    ("block_size = 4096", "block_size = 1024", "units.disk0.block_size is not 512 or 4096"),
    ("block_size = 4096", "phisical_block_size = 4096", "is unknown; did you mean physical_block_size?"),
    ("block_size = 4096", "physical_block_size = 1536", "is not block_size (512) times a power of two"),
    ("block_size = 4096", 'removable = "yes"', "units.disk0.removable is neither true nor false; write true or false"),
    ("block_size = 4096", 'vendor = "NINECHARS"', "units.disk0.vendor has more than 8 characters; shorten it"),
    ('file = "disk0.img"', "", "units.disk0 has neither file, device nor ram"),
    ('file = "disk0.img"', 'file = "disk0.img"\ndevice = "/dev/null"', "units.disk0 has file and device"),
    ('file = "disk0.img"', 'device = "/dev/null"', "/dev/null is not a block device"),
    ('file = "disk0.img"', 'device = "/dev/nowhere"', "/dev/nowhere does not exist; name a block device"),
    ("size = 1048576", "", "units.ram0.size is missing; a unit in RAM needs one"),
    ("size = 1048576", "size = 9223372036854775808", "units.ram0.size is more than 9223372036854775807"),
    ("size = 1048576", 'size = "9999999999PiB"', "units.ram0.size is more than 9223372036854775807"),
    ('file = "disk0.img"', 'file = "a\\u0000b"', "units.disk0.file has a NUL character"),
    ('file = "disk0.img"', 'file = "/nowhere/disk0.img"', "/nowhere is no directory; mkdir -p /nowhere"),
    (
        'pool = "shared"',
        'pool = "share"',
        "units.ram0.pool names the pool 'share', which is not defined; did you mean 'shared'",
    ),
    (
        'pool = "shared"',
        'pool = "fast"',
        "units.ram0.pool names the pool 'fast', which is not defined; define [pools.fast]",
    ),
    ('pool = "shared"', 'pool = "shared"\nthin = false', "units.ram0.pool is of no use with thin = false"),
    ('file = "disk0.img"', 'device = "/dev/null"\npool = "shared"', "disk0.pool needs a unit that tells what it has"),
    ("soft_threshold = 80", "soft_threshold = 100", "pools.shared.soft_threshold is more than 99; write percent"),
    ('size = "10MiB"', "", "pools.shared.size is missing; write bytes"),
    ("[pools.shared]", '[pools."a b"]', 'pools."a b" is not a name for a pool'),
    ('secret = "abcdefghijkl"', 'secret_file = "a\\u0000b"', "targets[0].chap[0].secret_file has a NUL character"),
    ("[portal_groups.1]", 'state = "a\\u0000b"\n[portal_groups.1]', "state is not the name of a directory"),
    ("[portal_groups.1]", f"[portal_groups.{'1' * 5000}]", "is not a portal group tag"),
    ("[portal_groups.1]", "[portal_groups.01]", "portal_groups.01 is not a portal group tag"),
    ('1 = "ram0"', f'{"1" * 5000} = "ram0"', "is not a LUN"),
    ('"10.0.2.2:3260"', '"10.0.2.2:0"', "portal_groups.1.advertise 10.0.2.2:0 is nothing that an initiator can"),
    ('"10.0.2.2:3260"', '"0.0.0.0:3260"', "0.0.0.0:3260 is nothing that an initiator can connect to"),
    ('"[::1]:3260"', '"a..b:3260"', "does not begin with the name or address of a host"),
    ("portal_groups = [1]", "portal_groups = [1, 1]", "targets[0].portal_groups names a portal group twice"),
    ("ram = true\n", 'file = "../state/disk0.img"\n', "units.ram0.file is the file of unit disk0 too"),
    ('naa = "naa.3000000000000001"', 'naa = "naa.30"', "'naa.30' is no NAA identifier"),
    ('naa = "naa.3000000000000001"', 'serial = "0001"', "units.ram0.serial is that of unit disk0 too"),
    ("[units.ram0]", '[units."ram 0"]', 'units."ram 0" is not a name for a unit'),
    ('name = "iqn.2026-11.org.example:disks"', 'name = "disks"', "targets[0].name 'disks' is not an iSCSI name"),
    ('name = "iqn.2026-11.org.example:disks"', 'name = "iqn.example"', "is not iqn.YYYY-MM. and a reversed domain"),
    ('name = "iqn.2026-11.org.example:disks"', "", "targets[0].name is missing; write name ="),
    ("portal_groups = [1]", "portal_groups = [2]", "names portal group 2, which is not defined"),
    ("[portal_groups.1]", "[portal_groups.one]", "portal_groups.one is not a portal group tag"),
    ('1 = "ram0"', '1 = "ram1"', "names the unit 'ram1', which is not defined; did you mean 'ram0'?"),
    ('1 = "ram0"', '1 = "disk0"', "names the unit 'disk0', which is LUN 0 already"),
    ('1 = "ram0"', '00 = "ram0"', "targets[0].luns.00 is the same LUN as 0"),
    ('1 = "ram0"', '16384 = "ram0"', "targets[0].luns.16384 is not a LUN; use a number of 0 to 16383"),
    ('"[::1]:3260"', '"0.0.0.0:3260"', "0.0.0.0:3260 clashes with 127.0.0.1:3260 of portal group 1"),
    ('"[::1]:3260"', '"::1"', "is an IPv6 address without brackets"),
    ('"abcdefghijkl"', '"short"', "has 5 bytes, fewer than the 12 that RFC7143 9.2.1 demands"),
    ('secret = "abcdefghijkl"', 'secret_file = "none"', "none: no such file or directory"),
    (', secret = "abcdefghijkl"', "", "targets[0].chap[0] has neither secret nor secret_file"),
    ('"abcdefghijkl"', '"0123456789ab"', "targets[0].mutual_chap has the same secret as an account of chap"),
    ('"mnopqrstuvwx"', '"0123456789ab"', "targets[0].mutual_chap has the same secret as an account of chap"),
    ('chap = [{ user = "u", secret = "abcdefghijkl" }]', "", "targets[0].mutual_chap is of no use without chap"),
    ('user = "u", secret', 'user = "u", sekret', "targets[0].chap[0].sekret is unknown; did you mean secret?"),
    ('header_digest = ["CRC32C", "None"]', "header_digest = []", "session.header_digest is empty; write a value"),
    ('first_burst_length = "64KiB"', 'first_burst_length = "2MiB"', "is more than max_burst_length"),
    (
        "max_connections = 2",
        "max_connections = 33",
        "session.max_connections is more than 32; write a number of 1 to 32",
    ),
    ("error_recovery_level = 1", "error_recovery_level = 3", "error_recovery_level is more than 2; write 0, 1 or 2"),
    ("login_timeout = 20", "login_timeout = -1", "session.login_timeout is not more than 0; write more than 0"),
    (
        "login_timeout = 20",
        'login_timeout = "20"',
        "session.login_timeout is not a number; write digits, without quotes",
    ),
    ('"[::1]:3260"', '"[a]:3260"', "'[a]:3260' has no IPv6 address in its brackets; write"),
    ("[session]", "[sesion]", "sesion is unknown; did you mean session?"),
    ("[discovery]", "[[discovery]]", "discovery is not a table"),
    ("[portal_groups.1]", "state = 1\n[portal_groups.1]", "state is not the name of a directory"),
    ("[portal_groups.1]", "busy_poll_us = -1\n[portal_groups.1]", "busy_poll_us is not a number of microseconds"),
    ("[portal_groups.1]", "busy_poll_us = true\n[portal_groups.1]", "busy_poll_us = 50, or another number from 0"),
]


@pytest.mark.parametrize("old, new, expected", WRONG, ids=[expected for _, _, expected in WRONG])
def test_mistake_is_told_with_its_place_and_remedy(write, old, new, expected):
    assert old in CORRECT
    found = write(CORRECT.replace(old, new, 1))
    assert found.configuration is None
    assert any(expected in line for line in found.mistakes), found.mistakes


@pytest.mark.parametrize(
    "found_bytes, expected",
    [(0, "has 0 bytes, which is not one block"), (1048577, "units.disk0.size is 1048576 where ")],
)
def test_image_that_could_not_be_served_is_a_mistake(write, tmp_path, found_bytes, expected):
    (tmp_path / "state" / "disk0.img").write_bytes(bytes(found_bytes))
    [line] = write(CORRECT).mistakes
    assert expected in line


def test_image_that_is_shorter_than_it_is_to_be_is_a_mistake_only_when_it_must_not_be_written(write, tmp_path):
    (tmp_path / "state" / "disk0.img").write_bytes(bytes(8192))
    assert not write(CORRECT).mistakes
    [line] = write(CORRECT.replace('personality = "scst"', "read_only = true")).mistakes
    assert "read_only forbids to make it longer; leave it out" in line


def test_line_of_a_mistake_is_told(write, path):
    found = write(CORRECT.replace("block_size = 4096", "block_size = 1024"))
    [line] = found.mistakes
    assert line == f"{path}:8: units.disk0.block_size is not 512 or 4096; write 512 or 4096"


def test_every_mistake_is_told_at_once(write):
    text = CORRECT.replace('"1MiB"', '"1MB"').replace('ram0" }', 'ram1" }').replace("[session]", "[sesion]")
    assert len(write(text).mistakes) == 3


def test_mistakes_stand_in_the_order_of_the_file(write):
    found = write(CORRECT.replace('ram0" }', 'ram1" }').replace('"1MiB"', '"1MB"'))
    assert ["disk0.size" in found.mistakes[0], "luns" in found.mistakes[1]] == [True, True]


def test_target_named_twice_is_a_mistake(write):
    twice = CORRECT + '[[targets]]\nname = "IQN.2026-11.org.example:disks"\n'
    assert any("is the name of targets[0] too" in line for line in write(twice).mistakes)


def test_target_that_is_wrong_is_not_said_to_be_missing(write):
    [line] = write(CORRECT.replace('name = "iqn.2026-11.org.example:disks"', "")).mistakes
    assert "targets[0].name is missing" in line


def test_file_without_targets_is_a_mistake(write):
    assert any("targets is missing" in line for line in write("").mistakes)


def test_secret_that_everybody_may_read_is_a_warning(write, path, tmp_path):
    (tmp_path / "t.secret").chmod(0o644)
    found = write(CORRECT)
    assert found.configuration is not None
    [warning] = found.warnings
    assert "everybody may read" in warning


def test_secret_that_is_too_long_for_windows_is_a_warning(write):
    [warning] = write(CORRECT.replace("abcdefghijkl", "abcdefghijklmnopq")).warnings
    assert "more than the 16" in warning


def test_mistakes_never_show_a_secret(write):
    found = write(CORRECT.replace("abcdefghijkl", "hunter2").replace("[session]", "[sesion]"))
    assert "hunter2" not in "".join(found.mistakes)


def test_port_zero_never_clashes(write):
    assert not write(CORRECT.replace('"[::1]:3260"', '"127.0.0.1:0", "0.0.0.0:0"')).mistakes


def test_state_of_the_file_is_beside_it(path, tmp_path):
    path.write_text('state = "here"\n' + CORRECT)
    path.chmod(stat.S_IRUSR)
    configuration = judge(path).configuration
    assert configuration is not None
    assert configuration.state == tmp_path / "here"


def test_load_raises_every_mistake(path):
    path.write_text("[sesion]\n")
    with pytest.raises(ConfigErrors) as raised:
        load(path)
    assert len(raised.value.lines) == 2
    assert all(line in str(raised.value) for line in raised.value.lines)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"a = ", "is not TOML"),
        (b"\xff", "is not UTF-8"),
        (b"a = " + b"1" * 5000, "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
    ],
    ids=["unfinished", "not UTF-8", "long number", "deep nesting"],
)
def test_what_is_no_toml_is_a_mistake(path, content, expected):
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        judge(path)


def test_file_that_is_missing_is_a_mistake():
    with pytest.raises(ConfigError, match=r"/nowhere\.toml: no such file or directory; name a readable file"):
        judge(Path("/nowhere.toml"))


def test_target_with_a_wrong_key_is_compared_with_the_other_tables_all_the_same(write):
    text = CORRECT.replace('alias = "disks"', 'alias = 5\ncolour = "red"').replace('1 = "ram0"', '1 = "ram9", 2 = 7')
    text = text.replace('"abcdefghijkl"', '"short"').replace("portal_groups = [1]", "portal_groups = [4]")
    found = "\n".join(write(text).mistakes)
    for wrong in ("alias", "colour", "ram9", "luns.2", "chap[0].secret", "portal_groups"):
        assert wrong in found
    assert len(write(text).mistakes) == 6


def test_what_follows_only_from_what_is_wrong_is_no_mistake_of_its_own(write):
    text = CORRECT.replace("portal_groups = [1]", 'portal_groups = "1"')
    assert len(write(text.replace("[portal_groups.1]", "[portal_groups.7]")).mistakes) == 1


def test_state_directory_is_found_in_a_file_that_is_wrong_otherwise(path, tmp_path):
    path.write_text('state = "there"\nunit = 1\n[units.disk0]\nsize = 1\n')
    assert judge(path).configuration is None
    assert state_directory(path) == tmp_path / "there"


def test_state_directory_of_a_file_that_names_none_is_the_default(path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/x")
    path.write_text(CORRECT)
    assert state_directory(path) == Path("/var/lib/x") == load(path).state


@pytest.mark.parametrize(
    "text, said",
    [
        ("\nstate = 7\n", ":2: state is not the name of a directory; "),
        ("stat = 'there'\n", ":1: stat is unknown; did you mean state?"),
        ("[", ": is not TOML: "),
    ],
)
def test_state_directory_that_may_be_meant_otherwise_is_a_mistake(path, text, said):
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        state_directory(path)
    assert str(raised.value).startswith(f"{path}{said}")
