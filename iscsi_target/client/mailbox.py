"""What comes without being asked for, kept until somebody fetches it."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from iscsi_target.client.failures import SessionEnded

T = TypeVar("T")

MAX_KEPT = 1024  # items; the oldest is lost when there are more


class Mailbox(Generic[T]):
    """Keeps items in their order."""

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=MAX_KEPT)
        self._changed = asyncio.Event()
        self._closed = ""

    def put(self, item: T) -> None:
        """Adds an item."""
        self._items.append(item)
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
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)
