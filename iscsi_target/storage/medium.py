"""A medium performs the operations of one logical unit: at once when that cannot block, else in a thread.

`Medium` drives any `Backend`, which performs operations and knows what it can do without blocking: RAM is in
storage/ram, files and devices are in storage/file, and storage/pool lets several of them share room.

A fault of the medium is a result here, never an exception: it travels to the logical unit the way an
outcome does. An operation that was handed to a thread runs to its end whatever happens to its caller,
because it cannot be taken back.

Handing over is cheap because nothing is made for an operation but its entry in a queue. A thread takes one entry
after the other while there are any, and what several threads have finished wakes the event loop once. A read that the
kernel is fetching is handed over only when it is not there in time: storage/lookout.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal, NamedTuple, Protocol

from iscsi_target.scsi.operations import Attempt, Fault, MediumError, Operation, Outcome, WouldBlock
from iscsi_target.storage.lookout import Lookout
from iscsi_target.storage.page_cache import PageCache

log = logging.getLogger(__name__)

WORKER_THREADS = 32  # of the executor that all media share; they wait for disks, not for processors
THREADS_PER_MEDIUM = 8  # so that one hung device leaves threads to three others
RESULTS_PER_TURN = 32  # told before the event loop has its next turn
MAX_UNTOLD_BYTES = 16 << 20  # of one medium: threads wait until the event loop has taken what was read
OPERATIONS_PER_TURN = 16  # that a thread performs before media that wait for a thread have their turn

Result = Outcome | MediumError


class Backend(Protocol):
    """What Medium can drive."""

    @property
    def size_bytes(self) -> int:
        """The length; only `grow` changes it."""

    @property
    def read_only(self) -> bool:
        """True when every change is refused."""

    @property
    def identity(self) -> str:
        """Which one it is of all that could be opened in its place; nothing for one that is always new."""

    @property
    def attempt(self) -> Attempt:
        """Performs the operation if that cannot block, a fault being a result; else BLOCKS."""

    @property
    def page_cache(self) -> PageCache | None:
        """What may soon have a read that blocked; None when a thread is to do whatever blocked."""

    def perform(self, operation: Operation) -> Outcome:
        """Performs the operation; may block; raises MediumError."""

    def grow(self, size_bytes: int | None) -> None:
        """Makes the store longer; may block.

        size_bytes   the new length; None takes that of what the store lies on, if that has become longer
        raises       StorageError when it would become shorter, or cannot become that long; it stays as it is then
        """

    def close(self) -> None:
        """Gives up the store; nothing is called after it."""


def worker_threads() -> ThreadPoolExecutor:
    """Returns an executor for the media and the state file of a server; the caller shuts it down."""
    return ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="medium")


class Medium:
    """Performs operations on one backend for an event loop, on which all its methods are called.

    backend    owned from now on
    executor   where operations that may block run; shared, not owned
    """

    def __init__(self, backend: Backend, executor: Executor) -> None:
        self._attempt: Attempt = backend.attempt
        self._backend = backend
        self._executor = executor
        self._closed = False
        self._idle = asyncio.Event()
        self._lookout: Lookout[_Entry] = Lookout()
        self._open = 0  # submitted and not told yet
        self._queue = threading.Lock()  # guards the three that follow
        self._waiting: deque[_Entry] = deque()
        self._workers = 0
        self._untold_bytes = 0  # of results that the event loop has not taken yet
        self._finished: deque[tuple[_Entry, Result]] = deque()
        self._woken = False

    @property
    def size_bytes(self) -> int:
        """The length of the medium; only `grow` and `exchange` change it."""
        return self._backend.size_bytes

    def grow(self, size_bytes: int | None) -> int:
        """Makes the medium longer and returns its length; as `Backend.grow`, and from a thread, as it may block."""
        self._backend.grow(size_bytes)
        return self._backend.size_bytes

    @property
    def read_only(self) -> bool:
        """True when every change is refused with Fault.READ_ONLY."""
        return self._backend.read_only

    def attempt(self, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        """Performs the operation if that cannot block.

        returns   what `submit` would, or BLOCKS when the operation is not done and `submit` is needed
        """
        try:
            return self._attempt(operation)
        except Exception:
            log.exception("internal error; %s failed", type(operation).__name__)
            return MediumError(Fault.GONE)

    def submit(self, operation: Operation, done: Callable[[Result], None]) -> None:
        """Performs the operation in a thread.

        done   is called once, from the event loop and never from within this call, with the outcome of the operation
               or the MediumError that it ended with; GONE after `close`
        """
        entry = _Entry(operation, done, asyncio.get_running_loop())
        self._open += 1
        self._idle.clear()
        if self._closed:
            self._finish(entry, MediumError(Fault.GONE))
            return
        page_cache = self._backend.page_cache
        if page_cache is not None and page_cache.awaits(operation):
            if not self._lookout:
                entry.loop.call_soon(self._look, page_cache, entry.loop)
            self._lookout.add(entry, operation)
        else:
            self._leave(entry)

    async def perform(self, operation: Operation) -> Result:
        """Does what `submit` does and returns the result; the operation runs to its end if the caller is cancelled."""
        finished: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not finished.done():
                finished.set_result(result)

        self.submit(operation, done)
        return await finished

    async def settled(self) -> None:
        """Returns when no operation is under way; the caller sees to it that this comes to be."""
        while self._open:
            await self._idle.wait()

    def exchange(self, backend: Backend) -> Backend:
        """Goes on with another backend, owned from now on, when no operation is under way; returns the former one."""
        assert not self._open
        assert not self._closed
        former, self._backend, self._attempt = self._backend, backend, backend.attempt
        return former

    async def close(self) -> None:
        """Waits for the operations under way and closes the backend; what comes after is answered with GONE.

        It does not flush: what was not flushed was promised no more than a volatile write cache gives, and
        the page cache outlives the process.
        """
        if self._closed:
            return
        self._closed = True
        self._attempt = _gone
        with self._queue:
            given_up = [*self._waiting, *self._lookout.clear()]
            self._waiting.clear()
        for entry in given_up:
            self._finish(entry, MediumError(Fault.GONE))
        if self._open:
            await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(self._executor, self._backend.close)

    def _look(self, page_cache: PageCache, loop: asyncio.AbstractEventLoop) -> None:
        """Tells of what the page cache has fetched, and leaves to threads what it has not in time."""
        seen = self._lookout.look(page_cache)
        for entry in seen.late:
            self._leave(entry)
        if self._lookout:
            loop.call_soon(self._look, page_cache, loop)
        if seen.found:
            for entry, data in seen.found:
                self._note(entry, data)
            self._tell(loop)

    def _leave(self, entry: "_Entry") -> None:
        """Leaves an operation to a thread."""
        with self._queue:
            self._waiting.append(entry)
        self._employ()

    def _employ(self) -> None:
        """Sets one more thread to work, if there is anything to do and room for what comes of it."""
        with self._queue:
            if not self._has_work() or self._workers == THREADS_PER_MEDIUM:
                return
            self._workers += 1
        self._executor.submit(self._work)

    def _has_work(self) -> bool:
        return bool(self._waiting) and self._untold_bytes < MAX_UNTOLD_BYTES

    def _work(self) -> None:
        """Performs waiting operations on a thread; ends when there are none, or to begin again behind other media."""
        for left in reversed(range(OPERATIONS_PER_TURN)):
            with self._queue:
                if not self._has_work():
                    self._workers -= 1
                    return
                entry = self._waiting.popleft()
            result = self._perform(entry.operation)
            if not left:  # before the result is told, because then the executor may be shut down
                self._executor.submit(self._work)
            self._finish(entry, result)

    def _perform(self, operation: Operation) -> Result:
        try:
            return self._backend.perform(operation)
        except MediumError as error:
            return error
        except Exception:
            log.exception("internal error; %s failed", type(operation).__name__)
            return MediumError(Fault.GONE)

    def _finish(self, entry: "_Entry", result: Result) -> None:
        """Passes a result to the event loop, from any thread.

        The event loop clears `_woken` before it takes results, so one that is added after it took the last wakes it
        again; two threads may both wake it, which harms nobody.
        """
        self._note(entry, result)
        self._wake(entry.loop)

    def _note(self, entry: "_Entry", result: Result) -> None:
        with self._queue:
            self._untold_bytes += _size(result)
        self._finished.append((entry, result))

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._tell, loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        """Calls back for what is finished by now; one that raises does not keep the others from being told."""
        self._woken = False
        try:
            for _ in range(min(len(self._finished), RESULTS_PER_TURN)):
                entry, result = self._finished.popleft()
                self._open -= 1
                with self._queue:
                    self._untold_bytes -= _size(result)
                self._employ()
                entry.done(result)
        finally:
            if self._finished:
                self._wake(loop)
            if not self._open:
                self._idle.set()


def _size(result: Result) -> int:
    return len(result) if isinstance(result, (bytes, bytearray)) else 0


class _Entry(NamedTuple):
    operation: Operation
    done: Callable[[Result], None]
    loop: asyncio.AbstractEventLoop


def _gone(operation: Operation) -> MediumError:
    return MediumError(Fault.GONE)
