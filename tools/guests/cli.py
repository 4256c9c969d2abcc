"""The command line of `tools/guest`: makes the image, boots guests, and gives them a target when they want one."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.guests.image import GuestUnavailable, cache_folder, ready_image
from tools.guests.machine import HOSTS, SCRIPT_TIMEOUT_S, GuestFailed, booted, free_port
from tools.served import NotServing, ServedTarget

UNAVAILABLE = 125  # as of docker run and timeout: the script's own exit statuses are below
TARGET = "iqn.2026-11.org.iscsi-target:guest"
CONFIGURATION = """
[portal_groups.1]
listen = ["127.0.0.1:{port}"]
advertise = ["{host}:{port}"]

[units.disk]
file = "disk.img"
size = "1GiB"

[[targets]]
name = "{name}"
luns = {{ 0 = "disk" }}
"""


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/guest",
        description="Boots a Debian guest with the kernel's own initiator, open-iscsi, sg3-utils, multipath-tools and"
        f" targetcli. It reaches 127.0.0.1 of this machine at {HOSTS[0]}. Nothing in it outlives it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help=f"make the image that guests boot, once; kept in {cache_folder()}")
    run = commands.add_parser(
        "run",
        help="boot a guest, run a script in it with bash, and end it",
        description="Standard output has what the script writes, and the exit status is the script's: 124 when it was"
        f" not done in time, {UNAVAILABLE} when no guest could be had.",
    )
    run.add_argument("--target", action="store_true", help="serve a unit of 1 GiB; the script has $PORTAL and $TARGET")
    run.add_argument("--name", default="guest", help="the guest's host name and the end of its initiator name")
    run.add_argument("--timeout", type=float, default=SCRIPT_TIMEOUT_S, metavar="S", help="seconds for the script")
    run.add_argument("script", type=Path, help="a file, - for standard input")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/guest` and returns its exit status."""
    options = _arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.command == "build":
            print(ready_image().root.parent)
            return 0
        return _run(options)
    except (GuestUnavailable, GuestFailed, NotServing, OSError) as problem:
        print(f"guest: {problem}", file=sys.stderr)
        return UNAVAILABLE


def _run(options: argparse.Namespace) -> int:
    script = sys.stdin.read() if str(options.script) == "-" else options.script.read_text()
    image = ready_image()
    with _environment(options.target) as environment, booted(image, options.name) as guest:
        return guest.run(script, options.timeout, environment=environment, on_output=_print).status


def _print(text: str) -> None:
    print(text, end="", flush=True)


@contextmanager
def _environment(with_target: bool) -> Iterator[Mapping[str, str]]:
    """Serves a target when one is wanted, and tells the script how to reach it."""
    if not with_target:
        yield {}
        return
    port = free_port()
    with TemporaryDirectory(prefix="guest-target-") as folder:
        file = Path(folder, "target.toml")
        file.write_text(CONFIGURATION.format(port=port, host=HOSTS[0], name=TARGET))
        with ServedTarget(Path(folder), [str(file)], listen=None):
            yield {"PORTAL": f"{HOSTS[0]}:{port}", "TARGET": TARGET}
