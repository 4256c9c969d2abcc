"""What comes without being asked for, kept until somebody fetches it."""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from iscsi_target.client.failures import SessionEnded


class Letter(Protocol):
    """What is kept here."""

    @property
    def data(self) -> bytes:
        """What came with it."""


T = TypeVar("T", bound=Letter)

MAX_KEPT = 1024  # items; the oldest is lost when there are more
MAX_KEPT_BYTES = 1 << 24  # of what came with them, but the last is kept in any case


class Mailbox(Generic[T]):
    """Keeps items in their order."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._size_bytes = 0
        self._changed = asyncio.Event()
        self._closed = ""

    def put(self, item: T) -> None:
        """Adds an item."""
        self._items.append(item)
        self._size_bytes += len(item.data)
        while len(self._items) > MAX_KEPT or (self._size_bytes > MAX_KEPT_BYTES and len(self._items) > 1):
            self._take()
        self._changed.set()

    def close(self, reason: str) -> None:
        """Says why nothing more will come."""
        self._closed = reason
        self._changed.set()

    async def get(self) -> T:
        """Returns the next item and forgets it; waits for one; raises SessionEnded when none can come."""
        while not self._items:
            if self._closed:
                raise SessionEnded(self._closed)
            self._changed.clear()
            await self._changed.wait()
        return self._take()

    def _take(self) -> T:
        item = self._items.popleft()
        self._size_bytes -= len(item.data)
        return item

    def __len__(self) -> int:
        return len(self._items)
