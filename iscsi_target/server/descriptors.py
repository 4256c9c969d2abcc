"""Open files that the process may have: how many are for connections, and how to get more.

A socket is an open file. A quarter is left to images, the state file and whatever else an embedding program has open,
so that a storm of connections cannot make a reload fail.
"""

import resource

UNLIMITED = 1 << 30  # more than any kernel allows


def affordable_connections() -> int:
    """Returns how many connections the limit of open files has room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft * 3 // 4


def raise_limit() -> None:
    """Raises the process's limit of open files as far as it may go without being asked for: to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # a hard limit above what the kernel allows by now
        pass
