"""A transport without a socket."""

import asyncio
from collections.abc import Iterable


class FakeTransport(asyncio.Transport):
    """Keeps what is sent; closing it closes nothing but itself."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self._closing = False
        self.protocol = asyncio.Protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def writelines(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        self.sent += b"".join(buffers)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def taken(self) -> bytes:
        """What has been sent since the last call."""
        sent, self.sent = self.sent, b""
        return sent
