"""What initiators have put into the buffers of a unit: an echo buffer for each nexus, and one data buffer of the unit.

An echo buffer goes with its nexus, and all of them with a reset.

Source: SPC4r37 6.18, 6.49
"""

from iscsi_target.scsi.nexus import Nexus

ECHO_BYTES = 4096  # the most that the standard allows. Source: SPC4r37 6.18.8
DATA_BYTES = 1 << 16


class Buffers:
    """What is in the buffers of a unit."""

    def __init__(self) -> None:
        self._echoes: dict[Nexus, bytes] = {}
        self._data = b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffers) and (self._echoes, self._data) == (other._echoes, other._data)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def echo(self, nexus: Nexus) -> bytes | None:
        """Returns what a nexus put into its echo buffer last, or None when it put nothing there."""
        return self._echoes.get(nexus)

    def keep(self, nexus: Nexus, echo: bytes) -> None:
        """Puts something into the echo buffer of a nexus.

        echo    at most ECHO_BYTES
        """
        self._echoes[nexus] = echo

    @property
    def data(self) -> bytes:
        """What is in the data buffer; bytes that nobody wrote are zero."""
        return self._data or bytes(DATA_BYTES)

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Puts something into the data buffer, which ends no earlier than it."""
        before = self.data
        self._data = before[:offset_bytes] + data + before[offset_bytes + len(data) :]

    def leave(self, nexus: Nexus) -> None:
        """Forgets the echo buffer of a nexus."""
        self._echoes.pop(nexus, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._echoes.clear()
        self._data = b""
