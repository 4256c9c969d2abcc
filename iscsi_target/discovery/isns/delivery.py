"""Delivers one message of a server to a client and waits for the acknowledgement, by UDP or TCP."""

import asyncio
from typing import Final

import asyncio_dgram

from iscsi_target.discovery.isns.messages import ANSWER
from iscsi_target.discovery.isns.name_server import Place
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader, pack, unpack_datagram

TIMEOUT_S: Final = 5.0  # for a connection and an acknowledgement
DATAGRAM_TIMEOUT_S: Final = 1.5  # before a datagram is sent again
DATAGRAM_TRIES: Final = 3
MAX_BYTES: Final = 1 << 16  # of an acknowledgement


async def deliver(message: Message, place: Place) -> bool:
    """Returns whether a client has acknowledged a message; one that is not there has not."""
    try:
        return await (_by_datagram(message, place) if place.by_udp else _by_stream(message, place))
    except (OSError, TimeoutError, FramingError, asyncio_dgram.TransportClosed):
        return False


async def _by_datagram(message: Message, place: Place) -> bool:
    stream = await asyncio_dgram.connect((place.host, place.port))
    try:
        for _ in range(DATAGRAM_TRIES):
            await stream.send(pack(message, from_server=True))
            try:
                async with asyncio.timeout(DATAGRAM_TIMEOUT_S):
                    while True:
                        datagram, _ = await stream.recv()
                        if _acknowledges(unpack_datagram(datagram), message):
                            return True
            except TimeoutError:
                continue
        return False
    finally:
        stream.close()


async def _by_stream(message: Message, place: Place) -> bool:
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(place.host, place.port)
        try:
            writer.write(pack(message, from_server=True))
            messages = MessageReader(MAX_BYTES)
            while received := await reader.read(MAX_BYTES):
                if any(_acknowledges(each, message) for each in messages.feed(received)):
                    return True
            return False
        finally:
            writer.close()


def _acknowledges(answer: Message, message: Message) -> bool:
    return (answer.function_id, answer.transaction_id) == (message.function_id | ANSWER, message.transaction_id)
