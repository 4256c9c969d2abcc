"""Writes lines to a terminal, file or pipe on a thread.

Whoever reads a pipe may stop reading. Were the event loop to wait for that reader, some hundred failed logins would
halt the server. What does not fit the queue is left out, and a line says how much that was.

The first line after a silence leaves at once, and those of the moment after it together: were the thread woken for each
line of a storm of logins, it would fight the event loop for the interpreter.
"""

import logging
import os
import select
from queue import SimpleQueue
from threading import Event, Thread

from iscsi_target.server.journal import JsonFormatter, TextFormatter

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
MAX_WAITING_LINES = 4096  # about a megabyte
MAX_LINES_PER_WRITE = 256
PAUSE_S = 0.02  # between two writes; nobody who reads notices
CLOSE_WAIT_S = 2.0  # for a reader that is slow; what one that has stopped did not take is lost


def log_to_console(*, json: bool, verbose: bool) -> "Console":
    """Has log records written: to standard output as JSON, or to standard error for people."""
    console = Console(STANDARD_OUTPUT if json else STANDARD_ERROR)
    console.setFormatter(JsonFormatter() if json else TextFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[console], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # No line says on which thread or in which line of the source it was logged, so nobody is to find it out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    return console


class Console(logging.Handler):
    """A logging handler that never waits; `write` takes lines beside the records.

    descriptor    the open file to write to; stays open
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: SimpleQueue[str | None] = SimpleQueue()  # None is the end
        self._left_out = 0  # counted up by those who write only
        self._told = 0  # counted up by the thread only
        self._closing = Event()
        self._thread = Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record as the formatter has it."""
        self.write(self.format(record))

    def write(self, line: str) -> None:
        """Writes a line, without its line feed; returns at once."""
        if self._lines.qsize() < MAX_WAITING_LINES:
            self._lines.put(line)
        else:
            self._left_out += 1

    def close(self) -> None:
        """Returns when everything is written, or after CLOSE_WAIT_S."""
        super().close()
        if self._closing.is_set():  # logging closes all handlers once more when the process ends
            return
        self._closing.set()
        self._lines.put(None)
        self._thread.join(CLOSE_WAIT_S)

    def _write_all(self) -> None:
        reader_is_there = True
        while lines := self._next_lines():
            reader_is_there = reader_is_there and self._put(*lines)
            if self._lines.empty() and reader_is_there:
                self._tell_what_is_missing()
            self._closing.wait(PAUSE_S)
        if reader_is_there:
            self._tell_what_is_missing()

    def _next_lines(self) -> list[str]:
        """Waits for a line and returns it and those behind it, none at the end."""
        lines: list[str] = []
        while len(lines) < MAX_LINES_PER_WRITE and not (lines and self._lines.empty()):
            line = self._lines.get()
            if line is None:
                self._lines.put(None)  # found again when these lines are written
                break
            lines.append(line)
        return lines

    def _tell_what_is_missing(self) -> None:
        missing = self._left_out - self._told
        if missing:
            self._told += missing
            text = f"{missing} lines are missing here: they were not read fast enough"
            told = logging.makeLogRecord({"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"})
            self._put(self.format(told))

    def _put(self, *lines: str) -> bool:
        """Writes lines and returns True, or False when nobody can read them any more."""
        rest = memoryview("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a terminal that another program has made non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True
