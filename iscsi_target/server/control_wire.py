"""One client of the control socket: its request, what is sent to it, and what it watches.

Nobody who connects can hold up the server or make it grow: there are limits to the length of a request, to the time it
takes to come and an answer to be read, and to what waits for one who watches.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from iscsi_target.scsi.reservations.reservation_record import Record
from iscsi_target.scsi.state.timeline import Entry, entry_record
from iscsi_target.server.refused import Refused

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4096  # of the line of a request
REQUEST_S = 10.0  # for a request to come
STALL_S = 10.0  # for a client to read what waits for it, unless it watches
MAX_WAITING_ENTRIES = 1024  # for one who watches; about a megabyte
ENTRIES_PER_WRITE = 32  # of a log; between two writes the initiators have their turn

Event = TypeVar("Event")


class Feed(Generic[Event]):
    """Events on their way to a client, and how many had no room.

    concerns   says whether the client wants to know of an event
    record     makes of one what is sent
    """

    def __init__(self, concerns: Callable[[Event], bool], record: Callable[[Event], Record]) -> None:
        self._concerns = concerns
        self._record = record
        self._waiting: deque[tuple[Event] | int] = deque()  # a number: so many are left out here
        self._changed = asyncio.Event()

    def noted(self, event: Event) -> None:
        """Takes in what has happened."""
        if not self._concerns(event):
            return
        last = self._waiting[-1] if self._waiting else None
        if len(self._waiting) < MAX_WAITING_ENTRIES:
            self._waiting.append((event,))
        elif isinstance(last, int):
            self._waiting[-1] = last + 1
        else:
            self._waiting.append(1)
        self._changed.set()

    async def next(self) -> Record:
        """Returns what is to be told next when there is something."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        first = self._waiting.popleft()
        return {"left_out": first} if isinstance(first, int) else self._record(first[0])


class Client:
    """One connection to the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # so that drain returns when the kernel has all

    async def request(self) -> Record | None:
        """Returns the request, None when the client leaves without any.

        raises    Refused, OSError
        """
        try:
            async with asyncio.timeout(REQUEST_S):
                line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise Refused(f"the request has more than {MAX_REQUEST_BYTES} bytes", "send a shorter one") from None
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise Refused("the request is not a JSON object", 'send a line such as {"request": "units"}')
        return request

    async def send(self, *records: Record) -> None:
        """Sends records and returns when the client has fetched them, or the kernel has them for it.

        raises    OSError when the client is gone, TimeoutError, which is one, when it does not read
        """
        async with asyncio.timeout(STALL_S):
            await self._send(*records)

    async def refuse(self, refused: Refused) -> None:
        """Sends why a request is not carried out."""
        await self.send(_error(refused))

    async def watch(self, what: str, feed: Feed[Event]) -> None:
        """Sends what a feed has until the client leaves."""
        await self.send({"watching": what})
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send_feed(feed))
            await self._leave()
            sending.cancel()

    async def send_entries(self, entries: list[Entry]) -> None:
        """Sends entries and how many they are."""
        for start in range(0, len(entries), ENTRIES_PER_WRITE):
            await self.send(*map(entry_record, entries[start : start + ENTRIES_PER_WRITE]))
            await asyncio.sleep(0)
        await self.send({"entries": len(entries)})

    async def _send_feed(self, feed: Feed[Event]) -> None:
        """Sends what a feed has until the client is gone; waits for it as long as it reads nothing."""
        try:
            while True:
                await self._send(await feed.next())
        except OSError as error:
            log.debug("control client cut: %s", error)

    async def _leave(self) -> None:
        """Returns when the client closes its side, or says anything, which it has no reason to."""
        try:
            await self._reader.read(1)
        except OSError as error:
            log.debug("control client lost: %s", error)

    async def _send(self, *records: Record) -> None:
        self._writer.write(b"".join(map(_line, records)))
        await self._writer.drain()

    def cut(self) -> None:
        """Ends the connection at once; what was sent still reaches the client."""
        self._writer.transport.abort()


def error_line(refused: Refused) -> bytes:
    """Returns the line that tells a client why its request is not carried out."""
    return _line(_error(refused))


def _error(refused: Refused) -> Record:
    return {"error": refused.what, "remedy": refused.remedy}


def _line(record: Record) -> bytes:
    return json.dumps(record).encode() + b"\n"
