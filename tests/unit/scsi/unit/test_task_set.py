"""When tasks become enabled, and when operations may go to the medium. Nodes A and B; unit 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import CompareAndWrite, Flush, Operation, Read, Unmap, Write, extents, writes
from iscsi_target.scsi.state.task import Task, TaskAttribute
from iscsi_target.scsi.unit import task_set
from iscsi_target.scsi.unit.task_set import MAX_REGIONS, MAX_TASKS_PER_NEXUS, REGION_BYTES, TaskSets, Turn, Turns

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)
SIMPLE, ORDERED, HEAD = TaskAttribute.SIMPLE, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE


def task(attribute: TaskAttribute = SIMPLE, nexus: Nexus = A) -> Task:
    return Task(nexus, 0, bytes(16), attribute)


def test_simple_tasks_are_enabled_at_once():
    tasks = TaskSets()
    first, second = task(), task(TaskAttribute.UNTAGGED)
    assert tasks.enter(first)
    assert tasks.enter(second)


def test_simple_tasks_that_are_enabled_together_go_by_priority_and_age():
    tasks = TaskSets()
    first = task(ORDERED)
    tasks.enter(first)
    waiting = [Task(A, 0, bytes(16), priority=priority) for priority in (0, 15, 2, 1, 2, 0)]
    for each in waiting:
        assert not tasks.enter(each)
    assert tasks.leave(first) == [waiting[place] for place in (3, 2, 4, 1, 0, 5)]


@pytest.mark.parametrize("attribute", [SIMPLE, ORDERED, HEAD])
def test_a_command_may_go_to_the_head_of_the_queue_whatever_its_attribute(attribute: TaskAttribute):
    tasks = TaskSets()
    older, first, younger = task(ORDERED), task(attribute), task()
    tasks.enter(older)
    assert tasks.enter(first, first=True)
    assert not tasks.enter(younger)
    assert tasks.leave(older) == []
    assert tasks.leave(first) == [younger]


def test_a_task_that_stands_back_is_open_and_holds_up_nobody():
    tasks = TaskSets()
    first, waiting = task(HEAD), task(nexus=B)
    tasks.enter(first), tasks.enter(waiting)
    assert tasks.stand_back(first) == [waiting]
    assert (len(tasks), tasks.open_tasks(A)) == (2, 1)
    assert tasks.enables(SIMPLE)
    assert tasks.leave(first) == []
    assert tasks.open_tasks(A) == 0


def test_a_task_in_the_queue_may_hold_up_nobody_though_it_is_open():
    tasks = TaskSets()
    first, ordered, waiting = task(), task(ORDERED), task(nexus=B)
    tasks.enter(first), tasks.enter(ordered), tasks.enter(waiting)
    assert tasks.leave(first) == [ordered]
    assert tasks.stand_back(ordered) == [waiting]
    assert tasks.leave(waiting) == []
    assert tasks.enter(task(ORDERED))
    assert tasks.leave(ordered) == []
    assert tasks.open_tasks(A) == 1


@pytest.mark.clause("SAM5r21 8.6.3")
@pytest.mark.clause("SAM5r21 8.5")
def test_ordered_task_waits_for_all_older_tasks():
    tasks = TaskSets()
    first, second, ordered = task(), task(nexus=B), task(ORDERED)
    tasks.enter(first), tasks.enter(second)
    assert not tasks.enter(ordered)
    assert tasks.leave(first) == []
    assert tasks.leave(second) == [ordered]


@pytest.mark.clause("SAM5r21 8.6.2")
def test_simple_task_waits_for_an_older_ordered_task():
    tasks = TaskSets()
    ordered, younger, last = task(ORDERED), task(), task()
    assert tasks.enter(ordered)
    assert not tasks.enter(younger)
    assert not tasks.enter(last)
    assert tasks.leave(ordered) == [younger, last]


@pytest.mark.clause("SAM5r21 8.6.3")
def test_ordered_tasks_run_one_after_another():
    tasks = TaskSets()
    first, second, third = task(ORDERED), task(ORDERED), task(ORDERED)
    tasks.enter(first), tasks.enter(second), tasks.enter(third)
    assert tasks.leave(first) == [second]
    assert tasks.leave(second) == [third]


@pytest.mark.clause("SAM5r21 8.6.4")
def test_head_of_queue_task_is_enabled_at_once_and_holds_up_the_rest():
    tasks = TaskSets()
    running, ordered, head, late = task(), task(ORDERED), task(HEAD), task()
    tasks.enter(running), tasks.enter(ordered)
    assert tasks.enter(head)
    assert not tasks.enter(late)
    assert tasks.leave(running) == []
    assert tasks.leave(head) == [ordered]
    assert tasks.leave(ordered) == [late]


def test_simple_task_that_came_under_a_head_of_queue_task_is_enabled_after_it():
    tasks = TaskSets()
    head, simple = task(HEAD), task()
    tasks.enter(head)
    assert not tasks.enter(simple)
    assert tasks.leave(head) == [simple]


def test_a_dormant_task_can_leave():
    tasks = TaskSets()
    first, ordered, last = task(), task(ORDERED), task()
    tasks.enter(first), tasks.enter(ordered), tasks.enter(last)
    assert tasks.leave(ordered) == []
    assert tasks.leave(first) == [last]


def test_a_nexus_has_a_share_of_the_task_set():
    tasks = TaskSets()
    for _ in range(MAX_TASKS_PER_NEXUS):
        tasks.enter(task())
    assert not tasks.has_room(A)
    assert tasks.has_room(B)
    assert tasks.open_tasks(A) == MAX_TASKS_PER_NEXUS
    tasks.leave(next(iter(tasks)))
    assert tasks.has_room(A)


def test_the_task_set_as_a_whole_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_set, "MAX_TASKS", 1)
    tasks = TaskSets()
    tasks.enter(task())
    assert not tasks.has_room(B)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([SIMPLE, ORDERED, HEAD]), st.integers(0, 99)), max_size=80))
def test_the_order_of_tasks_is_that_of_the_standard(steps: list[tuple[bool, TaskAttribute, int]]):
    """Law: whoever becomes enabled may be by SAM's rules, and whoever may be is."""
    tasks = TaskSets()
    order: list[Task] = []
    enabled: set[Task] = set()
    for leaves, attribute, which in steps:
        if leaves and enabled:
            gone = sorted(enabled, key=order.index)[which % len(enabled)]
            order.remove(gone)
            enabled.discard(gone)
            news = tasks.leave(gone)
        else:
            order.append(task(attribute))
            news = [order[-1]] if tasks.enter(order[-1]) else []
        assert not enabled & set(news)
        enabled.update(news)
        assert enabled == enabled | {one for one in order if _may_be_enabled(one, order)}
        assert all(_may_be_enabled(one, order) for one in news)


def _may_be_enabled(one: Task, order: list[Task]) -> bool:
    older = order[: order.index(one)]
    heads = any(other.attribute is HEAD for other in order)
    if one.attribute is HEAD:
        return True
    if one.attribute is ORDERED:
        return not heads and not older
    return not heads and not any(other.attribute is ORDERED for other in older)


# Turns


def turn(operation: Operation) -> Turn:
    return Turn(task(), operation)


def test_operations_that_only_read_run_together():
    turns = Turns()
    assert turns.enter(turn(Read(0, 512)))
    assert turns.enter(turn(Read(0, 512)))


def test_operations_that_do_not_overlap_run_together():
    turns = Turns()
    assert turns.enter(turn(Write(0, bytes(512))))
    assert turns.enter(turn(Write(512, bytes(512))))
    assert turns.enter(turn(Flush()))
    assert turns.enter(turn(Write(0, b"")))


@pytest.mark.clause("SBC3r36 5.2")
def test_overlapping_compare_and_writes_take_turns_in_order():
    turns = Turns()
    first, second, third = (turn(CompareAndWrite(0, bytes(512), bytes(512))) for _ in range(3))
    assert turns.enter(first)
    assert not turns.enter(second)
    assert not turns.enter(third)
    assert turns.leave(first) == [second]
    assert turns.leave(second) == [third]
    assert turns.leave(third) == []
    assert len(turns) == 0


def test_a_late_read_does_not_overtake_a_waiting_write():
    turns = Turns()
    reading, writing, late = turn(Read(0, 512)), turn(Write(0, bytes(512))), turn(Read(0, 512))
    assert turns.enter(reading)
    assert not turns.enter(writing)
    assert not turns.enter(late)
    assert turns.leave(reading) == [writing]
    assert turns.leave(writing) == [late]


def test_a_turn_that_is_given_up_lets_others_go():
    turns = Turns()
    reading, writing, late = turn(Read(0, 512)), turn(Write(0, bytes(512))), turn(Read(0, 512))
    turns.enter(reading), turns.enter(writing), turns.enter(late)
    assert turns.leave(writing) == [late]
    assert turns.leave(reading) == []


def test_an_operation_over_very_many_regions_takes_its_turn_too():
    turns = Turns()
    small = turn(Write(REGION_BYTES * MAX_REGIONS, bytes(1)))
    wide = turn(Read(0, REGION_BYTES * MAX_REGIONS * 2))
    scattered = turn(Unmap(tuple((2 * n * REGION_BYTES, 1) for n in range(MAX_REGIONS + 1))))
    assert turns.enter(small)
    assert not turns.enter(wide)
    assert not turns.enter(scattered)
    assert turns.leave(small) == [wide]
    assert turns.leave(wide) == [scattered]
    assert turns.leave(scattered) == []


RANGES = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda r: (r[0] * 4096, r[1] * 4096))
OPERATIONS = st.one_of(
    RANGES.map(lambda r: Read(*r)),
    RANGES.map(lambda r: Write(r[0], bytes(r[1]))),
    st.lists(RANGES, max_size=4).map(lambda ranges: Unmap(tuple(ranges))),
    st.just(Flush()),
)


def _disturb(left: Operation, right: Operation) -> bool:
    bytes_of = [{b for o, n in extents(one) for b in range(o, o + n, 4096)} for one in (left, right)]
    return (writes(left) or writes(right)) and bool(bytes_of[0] & bytes_of[1])


@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 99)), max_size=40), st.integers(1, 4))
def test_turns_come_in_order_and_alone(steps: list[tuple[Operation, int]], limit: int):
    """Law: one goes when no older one that it disturbs is there, and everybody goes in the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_set, "MAX_REGIONS", limit)
        turns = Turns()
        present: dict[Turn, Operation] = {}
        running: set[Turn] = set()
        for operation, which in steps:
            new = turn(operation)
            older = [other for other in present.values() if _disturb(operation, other)]
            present[new] = operation
            assert turns.enter(new) == (not older)
            if not older:
                running.add(new)
            if which % 3 == 0:
                gone = list(present)[which % len(present)]
                _leave(turns, present, running, gone)
        while present:
            assert running
            _leave(turns, present, running, min(running, key=list(present).index))


def _leave(turns: Turns, present: dict[Turn, Operation], running: set[Turn], gone: Turn) -> None:
    del present[gone]
    running.discard(gone)
    free = turns.leave(gone)
    assert not running & set(free)
    running.update(free)
    order = list(present)
    for one in order:
        blocked = any(_disturb(present[one], present[other]) for other in order[: order.index(one)])
        assert (one in running) == (not blocked)


def test_two_operations_are_compared_once_however_many_regions_they_share(monkeypatch: pytest.MonkeyPatch):
    compared: list[Turn] = []
    disturbs = Turn.disturbs

    def noted(one: Turn, other: Turn) -> bool:
        compared.append(other)
        return disturbs(one, other)

    monkeypatch.setattr(Turn, "disturbs", noted)
    turns = Turns()
    first = turn(Unmap(tuple((2 * n * REGION_BYTES, 1) for n in range(MAX_REGIONS // 2))))
    second = turn(Unmap(tuple((2 * n * REGION_BYTES + 1, 1) for n in range(MAX_REGIONS // 2))))
    assert turns.enter(first)
    assert turns.enter(second)
    assert compared == [first]


@given(
    open_tasks=st.lists(st.sampled_from([SIMPLE, ORDERED, HEAD, TaskAttribute.UNTAGGED]), max_size=4),
    ended=st.lists(st.integers(0, 3), max_size=3),
    attribute=st.sampled_from([SIMPLE, ORDERED, HEAD, TaskAttribute.UNTAGGED]),
)
def test_a_task_is_enabled_by_coming_in_when_it_is_said_so(
    open_tasks: list[TaskAttribute], ended: list[int], attribute: TaskAttribute
):
    """Law: `enables` says before what `enter` says after."""
    tasks = TaskSets()
    entered = [task(each) for each in open_tasks]
    for each in entered:
        tasks.enter(each)
    for each in {entered[number] for number in ended if number < len(entered)}:
        tasks.leave(each)
    assert tasks.enables(attribute) is tasks.enter(task(attribute))


@pytest.mark.parametrize("older", [(), (SIMPLE,), (ORDERED,), (HEAD,)])
def test_nothing_enables_a_task_with_the_attribute_aca(older: tuple[TaskAttribute, ...]):
    tasks = TaskSets()
    for attribute in older:
        tasks.enter(task(attribute))
    assert not tasks.enables(TaskAttribute.ACA)


def test_without_turns_there_is_quiet():
    turns = Turns()
    assert turns.are_quiet(Write(0, bytes(512)))
    turn = Turn(task(), Write(0, bytes(512)))
    turns.enter(turn)
    turns.leave(turn)
    assert turns.are_quiet(Write(0, bytes(512)))


def test_readers_are_quiet_for_readers_only():
    turns = Turns()
    turns.enter(Turn(task(), Read(0, 512)))
    assert turns.are_quiet(Read(0, 512))
    assert turns.are_quiet(Flush())
    assert not turns.are_quiet(Write(1 << 30, bytes(512)))


@pytest.mark.parametrize("operation", [Read(1 << 30, 512), Write(1 << 30, bytes(512)), Flush()])
def test_a_writer_is_quiet_for_nobody_wherever_it_is(operation: Operation):
    turns = Turns()
    turns.enter(Turn(task(), Write(0, bytes(512))))
    assert not turns.are_quiet(operation)


def test_a_writer_that_waits_is_in_the_way_too():
    turns = Turns()
    reader, writer = Turn(task(), Read(0, 512)), Turn(task(), Write(0, bytes(512)))
    turns.enter(reader)
    assert not turns.enter(writer)
    assert not turns.are_quiet(Read(0, 512))
    turns.leave(writer)
    assert turns.are_quiet(Read(0, 512))


@given(older=st.lists(st.sampled_from([Read(0, 512), Write(512, bytes(512)), Flush()]), max_size=4), byte=st.booleans())
def test_what_is_quiet_has_its_turn_at_once(older: list[Operation], byte: bool):
    """Law: an operation that nobody can be in the way of would not have to wait."""
    turns = Turns()
    for operation in older:
        turns.enter(Turn(task(), operation))
    wanted: Operation = Write(512, bytes(512)) if byte else Read(512, 512)
    assert not turns.are_quiet(wanted) or turns.enter(Turn(task(), wanted))
