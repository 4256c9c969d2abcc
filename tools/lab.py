"""The lab of the libiscsi conformance suite: one target whose units together have what its tests ask for.

No single unit can have it all: a test wants a removable unit, or a write-protected one, or two paths, and one wants
physical blocks that are logical blocks. So every suite has its unit here, and all are reached by two portal groups.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.served import ServedTarget
from tools.suite import DEFAULT_TIMEOUT_S, Result, installed_tests, run_test, select

# More than MAXIMUM WRITE SAME LENGTH, so that WRITE SAME of all blocks is refused, and few enough for READ(6).
SIZE = "768MiB"
DISK, WRITE_PROTECTED, REMOVABLE, SMALL_SECTORS, BIG, SHARED, SANITIZED, SLOWLY_SANITIZED = range(8)
CONFIGURATION = f"""
[session]
nop_timeout = 120             # Sanitize.Reset sleeps for 60 s and answers no ping meanwhile (libiscsi 1.19)

[portal_groups.1]
listen = ["127.0.0.1:0"]

[portal_groups.2]
listen = ["127.0.0.2:0"]

[units.disk]                  # thin, 512 byte blocks in physical blocks of 4096
file = "disk.img"
size = "{SIZE}"
write_same_unmap = "any"      # WriteSame10.UnmapUntilEnd sends other bytes than zeros and wants them unmapped

[units.write-protected]
ram = true
size = "{SIZE}"
read_only = true

[units.removable]
ram = true
size = "{SIZE}"
removable = true

[units.small-sectors]
ram = true
size = "{SIZE}"
physical_block_size = 512

[units.big]                   # more blocks than READ CAPACITY(10) can say
file = "big.img"
size = "3TiB"

[units.shared]
ram = true
size = "{SIZE}"

[units.sanitized]             # small, as all of it is overwritten several times
file = "sanitized.img"
size = "64MiB"

[units.slowly-sanitized]      # Sanitize.Reset wants to find it at work after some seconds
ram = true
size = "64MiB"
sanitize_seconds = 12

[[targets]]
name = "iqn.2026-11.org.example:lab"
portal_groups = [1, 2]

[targets.luns]
0 = "disk"
1 = "write-protected"
2 = "removable"
3 = "small-sectors"
4 = "big"
5 = "shared"
6 = "sanitized"
7 = "slowly-sanitized"
"""

# GetLBAStatus.UnmapSingle asks for the status of the second block and wants to be told of the second physical block,
# which only a unit whose physical blocks are logical blocks can do (libiscsi 1.19 and 1.20).
# MultipathIO.CompareAndWrite writes zeros to 256 blocks and expects them in 257 (libiscsi 1.19).
UNITS = {
    "GetLBAStatus": SMALL_SECTORS,
    "MultipathIO": SHARED,
    "ReadOnly": WRITE_PROTECTED,
    "NoMedia": REMOVABLE,
    "PreventAllow": REMOVABLE,
    "StartStopUnit": REMOVABLE,
    "Sanitize": SANITIZED,
    "Sanitize.Reset": SLOWLY_SANITIZED,
}
LONG_TESTS = {"Sanitize.Reset": 150.0}  # seconds; after the first look it looks again every 60 s (libiscsi 1.19)
# What commands with an LBA of 64 bits are for, on a unit that has that many blocks too.
BIG_SUITES = ("Read16", "Write16", "Verify16", "WriteVerify16", "ReadCapacity10", "ReadCapacity16", "Prefetch16")


@contextmanager
def lab() -> Iterator[ServedTarget]:
    """Starts the lab, and ends it with the block."""
    with TemporaryDirectory(prefix="iscsi-target-lab-") as folder:
        file = Path(folder, "lab.toml")
        file.write_text(CONFIGURATION)
        with ServedTarget(Path(folder), [str(file)]) as target:
            yield target


def urls_for(target: ServedTarget, name: str) -> list[str]:
    """Returns both paths to the unit that a test is for.

    name   SUITE.TEST
    """
    unit = UNITS.get(name, UNITS.get(name.partition(".")[0], DISK))
    return [target.url(unit), target.url(unit, path=1)]


def run_lab(
    target: ServedTarget, patterns: Sequence[str] = (), timeout_s: float = DEFAULT_TIMEOUT_S
) -> Iterator[Result]:
    """Runs the installed tests that match, each on its unit, and those for long LBAs on the big one too.

    patterns    as of `select`
    raises      SuiteUnavailable
    """
    tests = installed_tests()
    for name in select(tests, patterns):
        yield run_test(tests[name], urls_for(target, name), max(timeout_s, LONG_TESTS.get(name, 0.0)))
        if name.partition(".")[0] in BIG_SUITES:
            yield run_test(tests[name], [target.url(BIG)], timeout_s)._replace(name=f"{name} on the big unit")
