"""`iscsi-target check`: reports what is wrong with a configuration file."""

import sys
from pathlib import Path

from iscsi_target.config.checks import judge


def check(path: Path, state: Path | None) -> int:
    """Prints every mistake and warning of a configuration file, one a line, and returns the exit status: 0 or 2.

    state     the state directory to judge it with; None takes the configured one
    raises    ConfigError when the file cannot be read or is not TOML
    """
    judged = judge(path, state)
    for line in judged.mistakes:
        print(line, file=sys.stderr)
    for line in judged.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if judged.configuration is None:
        return 2
    targets, units = len(judged.configuration.targets), len(judged.configuration.units)
    print(f"{path}: correct; targets: {targets}, units: {units}")
    return 0
