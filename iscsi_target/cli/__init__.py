"""The command line: `iscsi-target serve`, `iscsi-target check`.

What a person did wrong ends in one line on standard error and exit status 2, never in a traceback. Each command is a
module of its own, imported only when it is the one to run.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EXIT_MISTAKE = 2  # what was asked for cannot be done as it stands

EXAMPLES = """\
examples:
  iscsi-target serve
      one sparse unit of 1 GiB at 127.0.0.1:3260; prints its URL for iscsi-ls, iscsi-inq and qemu-img
  iscsi-target serve --listen 0.0.0.0:0 --json
      at a free port of every address; events as JSON lines
  iscsi-target check /etc/iscsi-target.toml
      reports every mistake in a configuration
  iscsi-target serve /etc/iscsi-target.toml --trace session.pcapng
      serves it and lets Wireshark see what goes over the connections

signals of serve: TERM logs initiators out and ends, again or INT ends at once, HUP reads the configuration again
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name and returns the exit status.

    arguments   without the program's name; None takes those of the process
    """
    given = _parser().parse_args(arguments)
    from iscsi_target.config.values import ConfigError, ConfigErrors
    from iscsi_target.storage.faults import StorageError

    try:
        if given.command == "check":
            from iscsi_target.cli.check import check

            return check(given.configuration, given.state)
        from iscsi_target.cli.serve import Options, run

        return run(Options(given.configuration, given.state, given.listen, given.trace, given.json, given.verbose))
    except ConfigErrors as mistakes:
        print("\n".join(mistakes.lines), file=sys.stderr)
    except (ConfigError, StorageError) as error:
        print(f"iscsi-target: {error}", file=sys.stderr)
    return EXIT_MISTAKE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iscsi-target",
        description="Serves files, block devices and RAM as iSCSI logical units.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"iscsi-target {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve a configuration, or one unit without any",
        description="Serves a configuration, or without any one sparse 1 GiB unit at 127.0.0.1:3260.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("configuration", nargs="?", type=Path, metavar="CONFIG.toml", help="see README.md")
    serve.add_argument("--state", type=Path, metavar="DIR", help="state directory, instead of the configured one")
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="instead of the addresses of the first portal group; port 0 takes a free port",
    )
    serve.add_argument(
        "--trace", type=Path, metavar="FILE.pcapng", help="write what goes over the connections, for Wireshark"
    )
    serve.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    serve.add_argument("-v", "--verbose", action="store_true", help="also log what helps to find an error")
    check = commands.add_parser(
        "check",
        help="report every mistake in a configuration",
        description="Reports every mistake in a configuration; exit status 0 when there is none, else 2.",
    )
    check.add_argument("configuration", type=Path, metavar="CONFIG.toml", help="see README.md")
    check.add_argument("--state", type=Path, metavar="DIR", help="state directory, instead of the configured one")
    return parser


def _version() -> str:
    try:
        return version("iscsi-target")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"
