"""Writes lines to a terminal, file or pipe on a thread.

Whoever reads a pipe may stop reading. Were the event loop to wait for that reader, some hundred failed logins would
halt the server. What does not fit the queue is left out, and a line says how much that was.
"""

import logging
import os
import select
from queue import Full, Queue
from threading import Thread

MAX_WAITING_LINES = 4096  # about a megabyte
CLOSE_WAIT_S = 2.0  # for a reader that is slow; what one that has stopped did not take is lost


class Console(logging.Handler):
    """A logging handler that never waits; `write` takes lines beside the records.

    descriptor    the open file to write to; stays open
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(MAX_WAITING_LINES)
        self._left_out = 0  # counted up by those who write only
        self._told = 0  # counted up by the thread only
        self._closed = False
        self._thread = Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record as the formatter has it."""
        self.write(self.format(record))

    def write(self, line: str) -> None:
        """Writes a line, without its line feed; returns at once."""
        try:
            self._lines.put_nowait(line)
        except Full:
            self._left_out += 1

    def close(self) -> None:
        """Returns when everything is written, or after CLOSE_WAIT_S."""
        super().close()
        if self._closed:  # logging closes all handlers once more when the process ends
            return
        self._closed = True
        try:
            self._lines.put(None, timeout=CLOSE_WAIT_S)
        except Full:
            return
        self._thread.join(CLOSE_WAIT_S)

    def _write_all(self) -> None:
        reader_is_there = True
        while (line := self._lines.get()) is not None:
            reader_is_there = reader_is_there and self._put(line)
            if self._lines.empty() and reader_is_there:
                self._tell_what_is_missing()

    def _tell_what_is_missing(self) -> None:
        missing = self._left_out - self._told
        if missing:
            self._told += missing
            text = f"{missing} lines are missing here: they were not read fast enough"
            told = logging.makeLogRecord({"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"})
            self._put(self.format(told))

    def _put(self, line: str) -> bool:
        """Writes a line and returns True, or False when nobody can read it any more."""
        rest = memoryview(line.encode(errors="backslashreplace") + b"\n")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a terminal that another program has made non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True
