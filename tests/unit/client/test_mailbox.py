"""What comes without being asked for."""

import asyncio
from typing import NamedTuple

import pytest

from iscsi_target.client.failures import SessionEnded
from iscsi_target.client.mailbox import MAX_KEPT, MAX_KEPT_BYTES, Mailbox


class Note(NamedTuple):
    number: int
    data: bytes = b""


async def test_items_come_in_their_order_to_whoever_waits():
    mailbox: Mailbox[Note] = Mailbox()
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(mailbox.get()), group.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.put(Note(1))
        mailbox.put(Note(2))
    assert {first.result(), second.result()} == {Note(1), Note(2)}


async def test_what_is_there_can_be_fetched_after_the_end_and_then_nothing():
    mailbox: Mailbox[Note] = Mailbox()
    mailbox.put(Note(1))
    mailbox.close("gone")
    assert await mailbox.get() == Note(1)
    with pytest.raises(SessionEnded, match="gone"):
        await mailbox.get()


async def test_whoever_waits_is_told_of_the_end():
    mailbox: Mailbox[Note] = Mailbox()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_failure(mailbox))
        await asyncio.sleep(0)
        mailbox.close("gone")
    assert waiting.result() == "gone"


async def _failure(mailbox: Mailbox[Note]) -> str:
    with pytest.raises(SessionEnded) as ended:
        await mailbox.get()
    return str(ended.value)


async def test_oldest_is_lost_when_nobody_fetches():
    mailbox: Mailbox[Note] = Mailbox()
    for number in range(MAX_KEPT + 1):
        mailbox.put(Note(number))
    assert len(mailbox) == MAX_KEPT
    assert await mailbox.get() == Note(1)


async def test_oldest_are_lost_when_they_are_too_long_together_but_never_the_last():
    mailbox: Mailbox[Note] = Mailbox()
    half = Note(0, bytes(MAX_KEPT_BYTES // 2))
    for number in range(3):
        mailbox.put(half._replace(number=number))
    assert len(mailbox) == 2
    await mailbox.get()
    mailbox.put(Note(3))
    assert len(mailbox) == 2
    mailbox.put(Note(4, bytes(MAX_KEPT_BYTES + 1)))
    assert len(mailbox) == 1
    assert (await mailbox.get()).number == 4
