"""tshark understands what the target wrote down of a session with several connections."""

import socket
from pathlib import Path

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.events import CommandCompleted, Event, LoggedIn, LoggedOut
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.session import CLOSE_CONNECTION, Session, Settings
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from iscsi_target.scsi.layouts.lun import pack_lun
from tests.conftest import Tool
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import PLAIN, run
from tests.endtoend.wire_initiator import place_of

NAME, ISID = "iqn.2026-11.org.example:node-a", bytes([0x80, 0, 0, 0, 0, 1])
CONNECTIONS, BLOCKS = 3, 600
LUN = pack_lun(0)


class Line:
    """A connection of the machine with a socket at its end."""

    def __init__(self, connection: Connection, host: str, port: int) -> None:
        self.connection = connection
        self._socket = socket.create_connection((host, port), timeout=10)

    def flush(self) -> None:
        self._socket.sendall(b"".join(bytes(buffer) for buffer in self.connection.take_output()))

    def wait(self, kind: type[Event]) -> Event:
        while True:
            self.flush()
            received = self._socket.recv(1 << 18)
            assert received, f"the target has closed before {kind.__name__}"
            for event in self.connection.receive(received):
                if isinstance(event, kind):
                    return event

    def close(self) -> None:
        self._socket.close()


def command(session: Session, line: Line, asked: Command) -> CommandCompleted:
    session.command(asked, line.connection)
    completed = line.wait(CommandCompleted)
    assert isinstance(completed, CommandCompleted)
    return completed


def test_a_session_with_several_connections_decodes_without_a_malformed_pdu(
    serve: Serve, tool: Tool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.pcapng"
    target = serve(PLAIN, "--trace", str(trace))
    place = place_of(target.url(0))
    session = Session(Identity(NAME, ISID, place.target), Settings(Preferences(max_connections=CONNECTIONS)), bytes)
    lines = []
    for cid in range(CONNECTIONS):
        lines.append(Line(session.connect(cid), place.host, place.port))
        assert isinstance(lines[-1].wait(LoggedIn), LoggedIn)
    while command(session, lines[0], Command(LUN, Read16().pack())).status:
        pass
    for number, line in enumerate(lines):
        content = bytes([number]) * (BLOCKS * 512)
        assert command(session, line, Command(LUN, Write16(transfer_length=BLOCKS).pack(), content)).status == 0
        other = lines[number - 1]
        read = Command(LUN, Read16(transfer_length=BLOCKS).pack(), read_length=len(content))
        assert command(session, other, read).data == content
    session.log_out(lines[0].connection, CLOSE_CONNECTION, leaving=lines[2].connection)
    assert isinstance(lines[0].wait(LoggedOut), LoggedOut)
    session.log_out(lines[1].connection)
    assert isinstance(lines[1].wait(LoggedOut), LoggedOut)
    for line in lines:
        line.close()
    assert target.terminate() == 0

    decode: list[str | Path] = [tool("tshark"), "-r", trace, "-d", f"tcp.port=={place.port},iscsi"]
    assert run([*decode, "-Y", "_ws.malformed or tcp.analysis.lost_segment or tcp.analysis.retransmission"]) == ""
    assert run([*decode, "-Y", "_ws.expert.severity >= 0x00600000 and iscsi"]) == ""
    streams = run([*decode, "-Y", "iscsi.opcode == 0x25", "-T", "fields", "-e", "tcp.stream"]).split()
    assert set(streams) == {"0", "1", "2"}
