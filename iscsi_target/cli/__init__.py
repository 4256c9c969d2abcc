"""The command line: `iscsi-target` and its commands, of which `parser` says what they take.

What a person did wrong ends in one line on standard error and exit status 2, never in a traceback. Each command is a
module of its own, imported only when it is the one to run.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from iscsi_target.cli.parser import parser

EXIT_MISTAKE = 2  # what was asked for cannot be done as it stands


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name and returns the exit status.

    arguments   without the program's name; None takes those of the process
    """
    given = parser().parse_args(arguments)
    if given.command != "serve":
        return _run(given)
    collects = gc.isenabled()
    gc.disable()  # of what is loaded at the start nothing is garbage; `serve` collects from when it is ready
    try:
        return _run(given)
    finally:
        if collects:
            gc.enable()


def _run(given: argparse.Namespace) -> int:
    from iscsi_target.config.values import ConfigError, ConfigErrors
    from iscsi_target.storage.faults import StorageError

    try:
        if given.command == "check":
            from iscsi_target.cli.check import check

            return check(given.configuration, given.state)
        if given.command == "reservations":
            return _reservations(given)
        if given.command == "paths":
            return _paths(given)
        if given.command == "media":
            return _media(given)
        if given.command == "pools":
            return _pools(given)
        if given.command == "profiles":
            from iscsi_target.cli.profiles import run as print_profiles

            return print_profiles()
        if given.command == "isns":
            return _isns(given)
        if given.command == "faults":
            return _faults(given)
        if given.command == "targets":
            return _targets(given)
        from iscsi_target.cli.serve import Options, run

        return run(
            Options(
                given.configuration,
                given.state,
                given.listen,
                given.trace,
                given.json,
                given.verbose,
                given.busy_poll,
            )
        )
    except ConfigErrors as mistakes:
        print("\n".join(mistakes.lines), file=sys.stderr)
    except (ConfigError, StorageError) as error:
        print(f"iscsi-target: {error}", file=sys.stderr)
    return EXIT_MISTAKE


def _reservations(given: argparse.Namespace) -> int:
    from iscsi_target.cli.reservations import Options, Page, run

    pages = {"full_status": Page.FULL_STATUS, "capabilities": Page.CAPABILITIES}
    return run(
        Options(
            verb=given.verb,
            unit=given.unit,
            state=given.state,
            configuration=given.configuration,
            json=given.json,
            page=pages.get(getattr(given, "page", None) or "", Page.KEYS_AND_RESERVATION),
            key=getattr(given, "key", ""),
            abort=getattr(given, "abort", False),
        )
    )


def _paths(given: argparse.Namespace) -> int:
    from iscsi_target.cli.paths import Options, run

    group, access = getattr(given, "group", 0), getattr(given, "access", "")
    return run(Options(given.verb, given.unit, given.state, given.configuration, given.json, group, access))


def _media(given: argparse.Namespace) -> int:
    from iscsi_target.cli.media import Options, run

    return run(
        Options(
            verb=given.verb,
            unit=given.unit,
            file=getattr(given, "file", Path()),
            force=getattr(given, "force", False),
            state=given.state,
            configuration=given.configuration,
            json=given.json,
        )
    )


def _pools(given: argparse.Namespace) -> int:
    from iscsi_target.cli.pools import Options, run

    return run(Options(given.pool, given.state, given.configuration, given.json))


def _isns(given: argparse.Namespace) -> int:
    from iscsi_target.cli.isns import Options, run

    return run(
        Options(
            listen=given.listen,
            registration_period_s=given.registration_period,
            esi_min_interval_s=given.esi_min_interval,
            controls=tuple(given.control),
            json=given.json,
            verbose=given.verbose,
        )
    )


def _faults(given: argparse.Namespace) -> int:
    from iscsi_target.cli.faults import Options, run

    return run(
        Options(
            verb=given.verb,
            rule=getattr(given, "rule", ""),
            name=getattr(given, "name", ""),
            names=tuple(getattr(given, "names", ())),
            state=given.state,
            configuration=given.configuration,
            json=given.json,
        )
    )


def _targets(given: argparse.Namespace) -> int:
    from iscsi_target.cli.targets import Options, run

    name, address, permanent = (getattr(given, key, "") for key in ("target", "address", "permanent"))
    return run(Options(given.verb, name, address, bool(permanent), given.state, given.configuration, given.json))
