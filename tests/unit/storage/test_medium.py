"""Medium: one backend, driven from an event loop."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Literal, ParamSpec, TypeVar

import pytest

from iscsi_target.scsi.operations import BLOCKS, Fault, Flush, MediumError, Operation, Read, WouldBlock, Write
from iscsi_target.storage import medium as medium_module
from iscsi_target.storage.medium import OPERATIONS_PER_TURN, THREADS_PER_MEDIUM, Medium, Result
from iscsi_target.storage.ram import RamStore

SIZE = 4096

P = ParamSpec("P")
T = TypeVar("T")


class Gate(RamStore):
    """A store whose operations all need a thread, in which reads wait until the gate opens."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.running = 0
        self.most_running = 0
        self.closed_while_running = False
        self._count = threading.Lock()

    def attempt(self, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        return BLOCKS

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._count:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.entered.release()
        self.gate.wait(10)
        with self._count:
            self.running -= 1
        return super().read(offset_bytes, length_bytes)

    def flush(self) -> None:
        raise MediumError(Fault.WRITE_FAILED)

    def close(self) -> None:
        self.closed_while_running = self.running > 0
        super().close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4 * THREADS_PER_MEDIUM) as threads:
        yield threads


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.acquire)


async def test_a_fault_is_a_result(executor):
    medium = Medium(Gate(), executor)
    result = await medium.perform(Flush())
    assert isinstance(result, MediumError)
    assert result.fault is Fault.WRITE_FAILED


async def test_the_event_loop_runs_while_an_operation_blocks(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(medium.perform(Read(0, 512)))
        await entered(store)
        assert not reading.done()
        store.gate.set()
    assert reading.result() == bytes(512)


async def test_one_medium_takes_no_more_than_its_share_of_threads(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        for _ in range(3 * THREADS_PER_MEDIUM):
            group.create_task(medium.perform(Read(0, 512)))
        for _ in range(THREADS_PER_MEDIUM):
            await entered(store)
        store.gate.set()
    assert store.most_running == THREADS_PER_MEDIUM


async def test_close_waits_for_operations_under_way_even_when_their_caller_is_gone(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(medium.perform(Read(0, 512)))
        await entered(store)
        reading.cancel()
        closing = group.create_task(medium.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not closing.done()
        store.gate.set()
    assert not store.closed_while_running


async def test_operations_waiting_for_a_thread_at_close_are_answered_with_gone(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(medium.perform(Read(0, 512))) for _ in range(THREADS_PER_MEDIUM + 1)]
        for _ in range(THREADS_PER_MEDIUM):
            await entered(store)
        group.create_task(medium.close())
        await asyncio.sleep(0)
        store.gate.set()
    results = [read.result() for read in reads]
    assert results[:-1] == [bytes(512)] * THREADS_PER_MEDIUM
    assert isinstance(results[-1], MediumError)
    assert results[-1].fault is Fault.GONE


async def test_after_close_everything_is_answered_with_gone(executor):
    medium = Medium(RamStore(512), executor)
    attempt = medium.attempt  # as whoever was given it before would call it
    await medium.close()
    await medium.close()
    for result in (attempt(Read(0, 512)), await medium.perform(Read(0, 512))):
        assert isinstance(result, MediumError)
        assert result.fault is Fault.GONE


async def test_a_bug_in_an_operation_is_logged_and_answered(executor, caplog):
    medium = Medium(Gate(), executor)
    result = await medium.perform(Write(SIZE, b"beyond"))
    assert isinstance(result, MediumError)
    assert result.fault is Fault.GONE
    assert "AssertionError" in caplog.text


class Told:
    """Collects results, and tells when as many have come as a test waits for."""

    def __init__(self, count: int) -> None:
        self.results: list[Result] = []
        self._count = count
        self._all = asyncio.Event()

    def __call__(self, result: Result) -> None:
        self.results.append(result)
        if len(self.results) == self._count:
            self._all.set()

    async def all(self) -> list[Result]:
        async with asyncio.timeout(10):
            await self._all.wait()
        return self.results


async def test_every_operation_is_told_of_once(executor):
    count = 20 * OPERATIONS_PER_TURN
    store = Gate()
    store.gate.set()
    medium = Medium(store, executor)
    told = Told(count)
    for _ in range(count):
        medium.submit(Read(0, 512), told)
    assert told.results == []
    assert await told.all() == [bytes(512)] * count
    await medium.close()
    assert len(told.results) == count


async def test_results_that_are_ready_together_wake_the_event_loop_once(executor, monkeypatch):
    store = Gate()
    store.gate.set()
    medium = Medium(store, executor)
    told = Told(THREADS_PER_MEDIUM)
    woken: list[int] = []
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(1))
    for _ in range(THREADS_PER_MEDIUM):
        medium.submit(Read(0, 512), told)
    executor.shutdown()
    assert 1 <= len(woken) <= THREADS_PER_MEDIUM
    assert len(medium._finished) == THREADS_PER_MEDIUM
    monkeypatch.undo()
    wake(medium._tell, loop)
    await told.all()


class Fetching(Gate):
    """A store whose page cache has what is read after so many questions; other reads wait at the gate."""

    def __init__(self, questions: float) -> None:
        super().__init__()
        self.left = questions
        self.vain = 0
        self.page_cache = self  # type: ignore[assignment] # it is both here

    def awaits(self, operation: Operation) -> bool:
        return isinstance(operation, Read)

    def again(self, read: Read) -> bytearray | Literal[WouldBlock.BLOCKS]:
        self.left -= 1
        return BLOCKS if self.left > 0 else bytearray(b"f" * read.length_bytes)

    def waited_in_vain(self, waited_s: float) -> None:
        self.vain += 1


async def test_a_read_that_is_being_fetched_needs_no_thread(executor):
    store = Fetching(questions=4)
    medium = Medium(store, executor)
    told = Told(3)
    for _ in range(3):
        medium.submit(Read(0, 4), told)
    assert told.results == []
    assert await told.all() == [b"ffff"] * 3
    await medium.close()
    assert store.most_running == 0


async def test_a_read_that_is_not_fetched_in_time_is_left_to_a_thread(executor):
    store = Fetching(questions=math.inf)
    store.gate.set()
    medium = Medium(store, executor)
    assert await medium.perform(Read(0, 4)) == bytes(4)
    assert store.vain == 1
    await medium.close()


async def test_a_read_that_is_being_fetched_at_close_is_answered_with_gone(executor):
    medium = Medium(Fetching(questions=math.inf), executor)
    told = Told(2)
    for _ in range(2):
        medium.submit(Read(0, 4), told)
    await medium.close()
    assert [getattr(result, "fault", None) for result in await told.all()] == [Fault.GONE] * 2


async def test_a_callback_that_fails_keeps_no_other_from_being_told(executor):
    store = Gate()
    medium = Medium(store, executor)
    told = Told(2)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail(result: Result) -> None:
        raise KeyError(result)

    for done in (fail, told, fail, told):
        medium.submit(Read(0, 512), done)
    store.gate.set()
    await told.all()
    await medium.close()
    assert len(failures) == 2


async def test_a_busy_medium_lets_others_use_a_thread_between_its_operations():
    reads: list[str] = []

    class Noted(Gate):
        def read(self, offset_bytes: int, length_bytes: int) -> bytes:
            reads.append("busy" if self is busy_store else "other")
            return super().read(offset_bytes, length_bytes)

    with ThreadPoolExecutor(1) as executor:
        busy_store, other_store = Noted(), Noted()
        other_store.gate.set()
        busy, other = Medium(busy_store, executor), Medium(other_store, executor)
        count = 2 * THREADS_PER_MEDIUM * OPERATIONS_PER_TURN
        told = Told(count + 1)
        for _ in range(count):
            busy.submit(Read(0, 512), told)
        await entered(busy_store)
        other.submit(Read(0, 512), told)
        busy_store.gate.set()
        await told.all()
    assert reads.index("other") == THREADS_PER_MEDIUM * OPERATIONS_PER_TURN


async def test_an_operation_submitted_after_close_is_answered_later_with_gone(executor):
    medium = Medium(RamStore(512), executor)
    await medium.close()
    told = Told(1)
    medium.submit(Read(0, 512), told)
    assert told.results == []
    [result] = await told.all()
    assert isinstance(result, MediumError)
    assert result.fault is Fault.GONE


class Jobs(Executor):
    """Threads that work when the test says so, one after another."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        self.jobs.append(partial(fn, *args, **kwargs))
        return Future()

    def run(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


async def test_threads_wait_until_the_event_loop_has_taken_what_was_read(monkeypatch):
    monkeypatch.setattr(medium_module, "MAX_UNTOLD_BYTES", 1024)
    jobs, store = Jobs(), Gate()
    store.gate.set()
    medium = Medium(store, jobs)
    told: list[Result] = []
    for _ in range(5):
        medium.submit(Read(0, 512), told.append)
    for taken in (2, 4, 5):
        jobs.run()
        await asyncio.sleep(0)
        assert told == [bytes(512)] * taken


async def test_another_backend_answers_after_an_exchange(executor):
    first, second = RamStore(SIZE), RamStore(2 * SIZE)
    medium = Medium(first, executor)
    attempt = medium.attempt  # kept by whoever uses the medium
    assert await medium.perform(Write(0, b"first")) is None
    await medium.settled()
    assert medium.exchange(second) is first
    assert medium.size_bytes == 2 * SIZE
    assert attempt(Read(0, 5)) == bytes(5)
    assert await medium.perform(Read(0, 5)) == bytes(5)
    await medium.close()


async def test_a_medium_is_settled_when_nothing_is_under_way(executor):
    gate = Gate()
    medium = Medium(gate, executor)
    reading = asyncio.create_task(medium.perform(Read(0, 1)))
    await asyncio.sleep(0)
    settled = asyncio.create_task(medium.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    gate.gate.set()
    await settled
    assert (await reading) == bytes(1)
    await medium.close()
