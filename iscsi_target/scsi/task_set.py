"""When a task may start and when an operation may go to the medium; no statuses, no data, no handlers.

`TaskSet` orders tasks by their attributes. It keeps the ordered part as a queue of stretches: an ORDERED task is a
stretch of its own, neighbouring SIMPLE tasks share one, and only the first stretch is enabled. HEAD OF QUEUE tasks
stand beside the queue; while one is open nothing else becomes enabled, and what is enabled already stays so. Orders of
the operator stand there too and hold up nobody, since what they abort may take long. The task set is shared by all
nexuses (TST = 000b).

`Turns` lets operations that do not disturb each other run together and makes the others wait in the order in which they
came, so that a COMPARE AND WRITE is atomic and nobody starves: an operation also waits behind an older one that waits.

Both do a bounded amount of work per task: nothing is searched through, except operations in the same region.
"""

from collections import Counter, deque
from collections.abc import Iterator

from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Operation, extents, writes
from iscsi_target.scsi.task import Task, TaskAttribute

MAX_TASKS_PER_NEXUS = 128  # = the CmdSN window; immediate commands come on top of it and may be refused
MAX_TASKS = 1024  # of all nexuses; bounds what they can make one unit hold
REGION_BYTES = 1 << 16  # most operations touch one or two regions, and a region has few operations
MAX_REGIONS = 64  # an operation that touches more is compared with all others instead


class _Stretch:
    """Open tasks that may be enabled together."""

    __slots__ = ("dormant", "enabled", "ordered")

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.dormant: dict[Task, None] = {}
        self.enabled: set[Task] = set()

    @property
    def over(self) -> bool:
        return not self.dormant and not self.enabled


class TaskSet:
    """The open tasks of one logical unit and the order among them.

    Source: SAM5r21 8
    """

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque()
        self._heads: set[Task] = set()
        self._places: dict[Task, _Stretch | None] = {}
        self._nexuses: Counter[Nexus] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._places)

    def open_tasks(self, nexus: Nexus) -> int:
        """Returns how many tasks of a nexus are open."""
        return self._nexuses[nexus]

    def has_room(self, nexus: Nexus) -> bool:
        """Returns True when one more task of the nexus may enter.

        Source: SAM5r21 5.3.1 (TASK SET FULL)
        """
        return len(self._places) < MAX_TASKS and self._nexuses[nexus] < MAX_TASKS_PER_NEXUS

    def enter(self, task: Task) -> list[Task]:
        """Takes in a task for which there is room and returns the tasks that are enabled by it: itself or none.

        UNTAGGED is SIMPLE here. The ACA attribute never gets this far.
        Source: SAM5r21 8.5, 8.6
        """
        assert task.attribute is not TaskAttribute.ACA
        assert task not in self._places
        self._nexuses[task.nexus] += 1
        if task.attribute is TaskAttribute.HEAD_OF_QUEUE:
            self._places[task] = None
            if task.nexus != OPERATOR:
                self._heads.add(task)
            return [task]
        stretch = self._last_stretch(ordered=task.attribute is TaskAttribute.ORDERED)
        self._places[task] = stretch
        stretch.dormant[task] = None
        return self._enable()

    def leave(self, task: Task) -> list[Task]:
        """Takes out a task that is over and returns the tasks that are enabled by that, oldest first.

        Source: SAM5r21 8.5, 8.6
        """
        stretch = self._places.pop(task)
        self._count_down(task.nexus)
        if stretch is None:
            if task.nexus != OPERATOR:
                self._heads.remove(task)
        else:
            stretch.dormant.pop(task, None)
            stretch.enabled.discard(task)
        return self._enable()

    def _count_down(self, nexus: Nexus) -> None:
        self._nexuses[nexus] -= 1
        if not self._nexuses[nexus]:
            del self._nexuses[nexus]

    def _last_stretch(self, *, ordered: bool) -> _Stretch:
        last = self._stretches[-1] if self._stretches else None
        if last is None or ordered or last.ordered:
            last = _Stretch(ordered=ordered)
            self._stretches.append(last)
        return last

    def _enable(self) -> list[Task]:
        while self._stretches and self._stretches[0].over:
            self._stretches.popleft()
        if self._heads or not self._stretches:
            return []
        first = self._stretches[0]
        enabled = list(first.dormant)
        first.enabled.update(enabled)
        first.dormant.clear()
        return enabled


class Turn:
    """One operation's place among the others.

    task        whose it is
    writes      True when it may change the medium
    ranges      (start, end) in bytes, ascending, none empty
    regions     the regions that the ranges touch, or None when there are too many
    blockers    how many older turns it waits for
    followers   younger turns that wait for this one, in order
    """

    __slots__ = ("blockers", "followers", "ranges", "regions", "task", "writes")

    def __init__(self, task: Task, operation: Operation) -> None:
        self.task = task
        self.writes = writes(operation)
        self.ranges = sorted((offset, offset + length) for offset, length in extents(operation) if length)
        self.regions = _regions(self.ranges)
        self.blockers = 0
        self.followers: list[Turn] = []

    def disturbs(self, other: "Turn") -> bool:
        """Returns True when the two touch the same byte and one of them writes."""
        return (self.writes or other.writes) and _overlap(self.ranges, other.ranges)


class Turns:
    """The operations of one logical unit, those at the medium and those that wait for it.

    Source: SBC3r36 5.2 (no other command between the compare and the write)
    """

    def __init__(self) -> None:
        self._regions: dict[int, dict[Turn, None]] = {}
        self._wide: dict[Turn, None] = {}
        self._all: dict[Turn, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, turn: Turn) -> bool:
        """Takes in a turn; returns True when its operation may go to the medium at once."""
        for older in self._candidates(turn):
            if turn.disturbs(older):
                older.followers.append(turn)
                turn.blockers += 1
        self._all[turn] = None
        if turn.regions is None:
            self._wide[turn] = None
        else:
            for region in turn.regions:
                self._regions.setdefault(region, {})[turn] = None
        return turn.blockers == 0

    def leave(self, turn: Turn) -> list[Turn]:
        """Takes out a turn, whether its operation is over or never went; returns those that may go now, in order."""
        del self._all[turn]
        if turn.regions is None:
            del self._wide[turn]
        else:
            self._clear_regions(turn, turn.regions)
        free = []
        for follower in turn.followers:
            follower.blockers -= 1
            if follower.blockers == 0 and follower in self._all:
                free.append(follower)
        return free

    def _clear_regions(self, turn: Turn, regions: list[int]) -> None:
        for region in regions:
            present = self._regions[region]
            del present[turn]
            if not present:
                del self._regions[region]

    def _candidates(self, turn: Turn) -> dict[Turn, None]:
        if turn.regions is None:
            return self._all
        candidates = dict(self._wide)
        for region in turn.regions:
            candidates.update(self._regions.get(region, {}))
        return candidates


def _regions(ranges: list[tuple[int, int]]) -> list[int] | None:
    """Returns the regions that ranges touch, or None when there are too many."""
    regions: dict[int, None] = {}
    for start, end in ranges:
        first, last = start // REGION_BYTES, (end - 1) // REGION_BYTES
        if last - first >= MAX_REGIONS:
            return None
        regions.update(dict.fromkeys(range(first, last + 1)))
        if len(regions) > MAX_REGIONS:
            return None
    return list(regions)


def _overlap(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> bool:
    """Returns True when two ascending lists of (start, end) share a byte; takes one walk through both."""
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i][1] <= right[j][0]:
            i += 1
        elif right[j][1] <= left[i][0]:
            j += 1
        else:
            return True
    return False
