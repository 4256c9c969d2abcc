"""Runs the command line as `python -m iscsi_target`."""

import sys

from iscsi_target.cli import main

sys.exit(main())
