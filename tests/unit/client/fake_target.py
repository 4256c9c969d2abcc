"""A target of a few lines on a loopback port: it answers each login as a function says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from iscsi_target.iscsi.framing import PduReader, frame
from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.iscsi.responses import LoginResponse

Answer = Callable[[LoginRequest], tuple[LoginResponse, bytes]]


class _Connection(asyncio.Protocol):
    def __init__(self, answer: Answer, closes: bool) -> None:
        self.answer = answer
        self.closes = closes
        self.pdus = PduReader()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for pdu in self.pdus.feed(data):
            if pdu.basic.opcode == Opcode.LOGIN_REQUEST:
                self.transport.writelines(frame(*self.answer(LoginRequest.unpack(pdu.header))))
                if self.closes:
                    self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@asynccontextmanager
async def fake_target(answer: Answer, *, then_closes: bool = False) -> AsyncIterator[str]:
    """Yields "host:port"; ends when every initiator has gone."""
    connections: list[_Connection] = []

    def accept() -> _Connection:
        connections.append(_Connection(answer, then_closes))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for connection in connections:
            await connection.lost.wait()


def success(request: LoginRequest) -> tuple[LoginResponse, bytes]:
    """Answers that the full feature phase begins."""
    response = LoginResponse(
        transit=True,
        current_stage=request.current_stage,
        next_stage=3,
        tsih=1,
        initiator_task_tag=request.initiator_task_tag,
        exp_cmd_sn=request.cmd_sn,
        max_cmd_sn=request.cmd_sn,
    )
    return response, b""


def refusal(status: int, text: bytes = b"") -> Answer:
    """Returns an answer with this status."""
    status_class, detail = divmod(status, 256)
    return lambda _: (LoginResponse(status_class=status_class, status_detail=detail), text)
