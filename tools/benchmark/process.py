"""What the kernel knows of a process: the processor time that it took and the memory that it holds."""

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process, user and system, all its threads, those that have ended too.

    raises    ProcessLookupError when there is no such process
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Returns the resident memory of a process, what it shares with others counted in full."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("smaps_rollup without Rss")


class Clocks(NamedTuple):
    """What has been spent, seconds; two readings and their difference say where the time of a run went.

    elapsed_s   of the wall clock
    client_s    processor time of the client
    server_s    of the target, 0 when its process is not known
    others_s    of everything else that runs on the machine, 0 when the target's process is not known
    stolen_s    that the host of this virtual machine gave to others
    """

    elapsed_s: float
    client_s: float
    server_s: float
    others_s: float
    stolen_s: float

    def since(self, earlier: "Clocks") -> "Clocks":
        """Returns what was spent between two readings."""
        return Clocks(*(now - then for now, then in zip(self, earlier, strict=True)))


def clocks(server_pid: int, *, of_children: bool = False) -> Clocks:
    """Reads all clocks; the client is this process, or the children that it has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF)
    client_s = usage.ru_utime + usage.ru_stime
    server_s = cpu_seconds(server_pid) if server_pid else 0.0
    ticks = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    busy_s = (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) / _TICKS_PER_S  # all but idle, waiting and stolen
    others_s = busy_s - client_s - server_s if server_pid else 0.0
    return Clocks(time.perf_counter(), client_s, server_s, others_s, ticks[7] / _TICKS_PER_S)
