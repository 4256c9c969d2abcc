"""What comes without being asked for."""

import asyncio

import pytest

from iscsi_target.client.failures import SessionEnded
from iscsi_target.client.mailbox import MAX_KEPT, Mailbox


async def test_items_come_in_their_order_to_whoever_waits():
    mailbox: Mailbox[int] = Mailbox()
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(mailbox.get()), group.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.put(1)
        mailbox.put(2)
    assert {first.result(), second.result()} == {1, 2}


async def test_what_is_there_can_be_fetched_after_the_end_and_then_nothing():
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.close("gone")
    assert await mailbox.get() == 1
    with pytest.raises(SessionEnded, match="gone"):
        await mailbox.get()


async def test_whoever_waits_is_told_of_the_end():
    mailbox: Mailbox[int] = Mailbox()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_failure(mailbox))
        await asyncio.sleep(0)
        mailbox.close("gone")
    assert waiting.result() == "gone"


async def _failure(mailbox: Mailbox[int]) -> str:
    with pytest.raises(SessionEnded) as ended:
        await mailbox.get()
    return str(ended.value)


async def test_oldest_is_lost_when_nobody_fetches():
    mailbox: Mailbox[int] = Mailbox()
    for number in range(MAX_KEPT + 1):
        mailbox.put(number)
    assert len(mailbox) == MAX_KEPT
    assert await mailbox.get() == 1
