"""When a task may start and when an operation may go to the medium; no statuses, no data, no handlers.

`TaskSets` orders tasks by their attributes. A unit has one task set for all nexuses, or one for each (TST); a task
stays in the one that it entered. A task set keeps its ordered part as a queue of stretches: an ORDERED task is a
stretch of its own, neighbouring SIMPLE tasks share one, and only the first stretch is enabled. HEAD OF QUEUE tasks
stand beside the queue; while one is open nothing else becomes enabled, and what is enabled already stays so. Orders of
the operator stand there too and hold up nobody, since what they abort may take long. SIMPLE tasks that become enabled
together go in the order of their priorities.

`Turns` lets operations that do not disturb each other run together and makes the others wait in the order in which they
came, so that a COMPARE AND WRITE is atomic and nobody starves: an operation also waits behind an older one that waits.

Both do a bounded amount of work per task: nothing is searched through, except operations in the same region.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Operation, extents, writes
from iscsi_target.scsi.state.task import Task, TaskAttribute

MAX_TASKS_PER_NEXUS = 128  # = the CmdSN window; immediate commands come on top of it and may be refused
MAX_TASKS = 1024  # of all nexuses; bounds what they can make one unit hold
REGION_BYTES = 1 << 16  # most operations touch one or two regions, and a region has few operations
LEAST_PRIORITY = 15  # SAM5r21 8.7
AT_THE_HEAD = (TaskAttribute.HEAD_OF_QUEUE, TaskAttribute.ACA)
MAX_REGIONS = 64  # an operation that touches more is compared with all others instead


class _Stretch:
    """Open tasks that may be enabled together; those that are not enabled yet are dormant."""

    __slots__ = ("dormant", "open", "ordered")

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.open = 0
        self.dormant: dict[Task, None] = {}


class _TaskSet:
    """The open tasks among which there is an order.

    Source: SAM5r21 8
    """

    __slots__ = ("heads", "stretches")

    def __init__(self) -> None:
        self.stretches: deque[_Stretch] = deque()
        self.heads: set[Task] = set()

    def enables(self, attribute: TaskAttribute) -> bool:
        """Returns True when a task with an attribute would be enabled by coming in."""
        if attribute is TaskAttribute.HEAD_OF_QUEUE:
            return True
        if self.heads or attribute is TaskAttribute.ACA:
            return False
        if not self.stretches:
            return True
        return len(self.stretches) == 1 and not self.stretches[0].ordered and attribute is not TaskAttribute.ORDERED

    def append(self, task: Task) -> _Stretch:
        """Puts a task at the end of the queue."""
        ordered = task.attribute is TaskAttribute.ORDERED
        stretch = self.stretches[-1] if self.stretches else None
        if stretch is None or ordered or stretch.ordered:
            stretch = _Stretch(ordered=ordered)
            self.stretches.append(stretch)
        stretch.open += 1
        if self.heads or stretch is not self.stretches[0]:
            stretch.dormant[task] = None
        return stretch

    def enable(self) -> list[Task]:
        """Returns the tasks that become enabled now, in the order of their priorities and their age."""
        while self.stretches and not self.stretches[0].open:
            self.stretches.popleft()
        if self.heads or not self.stretches:
            return []
        enabled = sorted(self.stretches[0].dormant, key=_rank)
        self.stretches[0].dormant.clear()
        return enabled


def _rank(task: Task) -> int:
    """Returns what is least for the task that goes first; no priority is the lowest.

    Source: SAM5r21 8.7
    """
    return task.priority or LEAST_PRIORITY + 1


class TaskSets:
    """The open tasks of one logical unit and the order among those that share a task set.

    Source: SAM5r21 8, SPC4r37 7.5.8 (TST)
    """

    def __init__(self) -> None:
        self._shared = _TaskSet()
        self._own: dict[Nexus, _TaskSet] = {}  # of nexuses that have one to themselves, while a task is in it
        self._places: dict[Task, tuple[_TaskSet, _Stretch | None]] = {}  # None: beside the queue
        self._nexuses: dict[Nexus, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._places)

    def open_tasks(self, nexus: Nexus) -> int:
        """Returns how many tasks of a nexus are open."""
        return self._nexuses.get(nexus, 0)

    def has_room(self, nexus: Nexus) -> bool:
        """Returns True when one more task of the nexus may enter.

        Source: SAM5r21 5.3.1 (TASK SET FULL)
        """
        return len(self._places) < MAX_TASKS and self._nexuses.get(nexus, 0) < MAX_TASKS_PER_NEXUS

    def enables(self, attribute: TaskAttribute, owner: Nexus | None = None) -> bool:
        """Returns True when a task with an attribute would be enabled by coming in.

        owner    as in `enter`
        Source: SAM5r21 8.5, 8.6
        """
        among = self._shared if owner is None else self._own.get(owner)
        return among is None or among.enables(attribute)

    def enter(self, task: Task, owner: Nexus | None = None, *, first: bool = False) -> bool:
        """Takes in a task for which there is room and returns True when it is enabled at once.

        UNTAGGED is SIMPLE here.
        owner    the nexus whose task set it enters, or None for the one that the nexuses share
        first    True for a command that goes to the head of the queue whatever its attribute; ACA always does
        Source: SAM5r21 8.5, 8.6
        """
        assert task not in self._places
        self._nexuses[task.nexus] = self._nexuses.get(task.nexus, 0) + 1
        among = self._shared if owner is None else self._own.setdefault(owner, _TaskSet())
        if first or task.attribute in AT_THE_HEAD:
            self._places[task] = (among, None)
            if task.nexus != OPERATOR:
                among.heads.add(task)
            return True
        stretch = among.append(task)
        self._places[task] = (among, stretch)
        return task not in stretch.dormant

    def leave(self, task: Task) -> list[Task]:
        """Takes out a task that is over and returns the tasks that are enabled by that, as `_TaskSet.enable`.

        Source: SAM5r21 8.5, 8.6
        """
        among, stretch = self._places.pop(task)
        left = self._nexuses[task.nexus] - 1
        if left:
            self._nexuses[task.nexus] = left
        else:
            del self._nexuses[task.nexus]
        if stretch is not None:
            stretch.open -= 1
            if stretch.dormant:
                stretch.dormant.pop(task, None)
            if stretch.open:
                return []
        else:
            among.heads.discard(task)
        enabled = among.enable()
        if not (among.stretches or among.heads) and self._own.get(task.nexus) is among:
            del self._own[task.nexus]
        return enabled

    def stand_back(self, task: Task) -> list[Task]:
        """Lets an enabled task hold up nobody although it is open; returns as `leave`."""
        among, stretch = self._places[task]
        among.heads.discard(task)
        if stretch is not None:
            assert task not in stretch.dormant
            stretch.open -= 1
            self._places[task] = (among, None)
        return among.enable()


class Turn:
    """One operation's place among the others.

    task        whose it is
    operation   what goes to the medium
    writes      True when it may change the medium
    regions     the regions that it touches, each once, or None when there are too many
    blockers    how many older turns it waits for
    followers   younger turns that wait for this one, in order
    """

    __slots__ = ("_ranges", "blockers", "followers", "operation", "regions", "task", "writes")

    def __init__(self, task: Task, operation: Operation) -> None:
        self.task = task
        self.operation = operation
        self.writes = writes(operation)
        self.regions = _regions(extents(operation))
        self._ranges: list[tuple[int, int]] | None = None
        self.blockers = 0
        self.followers: list[Turn] = []

    def disturbs(self, other: "Turn") -> bool:
        """Returns True when the two touch the same byte and one of them writes."""
        return (self.writes or other.writes) and _overlap(self.ranges, other.ranges)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The (start, end) in bytes that it touches; most turns are never asked."""
        if self._ranges is None:
            self._ranges = _ranges(self.operation)
        return self._ranges


class Turns:
    """The operations of one logical unit, those at the medium and those that wait for it.

    Source: SBC3r36 5.2 (no other command between the compare and the write)
    """

    def __init__(self) -> None:
        self._regions: dict[int, dict[Turn, None]] = {}
        self._wide: dict[Turn, None] = {}
        self._all: dict[Turn, None] = {}
        self._writers = 0

    def __len__(self) -> int:
        return len(self._all)

    def are_quiet(self, operation: Operation) -> bool:
        """Returns True when none of the turns can be in the way of an operation, wherever they are."""
        return not self._all or not (self._writers or writes(operation))

    def enter(self, turn: Turn) -> bool:
        """Takes in a turn; returns True when its operation may go to the medium at once."""
        if turn.regions is None:
            self._await(turn, self._all)
            self._wide[turn] = None
        else:
            older = dict(self._wide)
            for region in turn.regions:
                present = self._regions.get(region)
                if present is None:
                    self._regions[region] = {turn: None}
                else:
                    older.update(present)
                    present[turn] = None
            self._await(turn, older)
        self._all[turn] = None
        self._writers += turn.writes
        return not turn.blockers

    def _await(self, turn: Turn, older_turns: Iterable[Turn]) -> None:
        """Lets a turn wait for those among older ones that it disturbs."""
        if not turn.writes and not self._writers:
            return
        for older in older_turns:
            if turn.disturbs(older):
                older.followers.append(turn)
                turn.blockers += 1

    def leave(self, turn: Turn) -> list[Turn]:
        """Takes out a turn, whether its operation is over or never went; returns those that may go now, in order."""
        del self._all[turn]
        self._writers -= turn.writes
        if turn.regions is None:
            del self._wide[turn]
        else:
            for region in turn.regions:
                present = self._regions[region]
                if len(present) == 1:
                    del self._regions[region]
                else:
                    del present[turn]
        free = []
        for follower in turn.followers:
            follower.blockers -= 1
            if follower.blockers == 0 and follower in self._all:
                free.append(follower)
        return free


def _ranges(operation: Operation) -> list[tuple[int, int]]:
    """Returns the (start, end) in bytes that an operation touches, ascending, none empty."""
    return sorted((offset, offset + length) for offset, length in extents(operation) if length)


def _regions(touched: tuple[tuple[int, int], ...]) -> Collection[int] | None:
    """Returns the regions that (offset, length) ranges touch, or None when there are too many."""
    regions: Collection[int] = ()
    for offset, length in touched:
        if not length:
            continue
        first, last = offset // REGION_BYTES, (offset + length - 1) // REGION_BYTES
        if last - first >= MAX_REGIONS:
            return None
        more = range(first, last + 1)
        regions = dict.fromkeys((*regions, *more)) if regions else more
        if len(regions) > MAX_REGIONS:
            return None
    return regions


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
