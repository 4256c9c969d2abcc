"""The target session identifying handles; one that has become free is given out again as late as possible.

Source: RFC7143 4.4.1, 11.12.6
"""

MAX_TSIH = 0xFFFF


class Tsihs:
    """Gives each session a handle of its own; there are always fewer sessions than handles."""

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._next = 1

    def take(self, wanted: int) -> int:
        """Returns a handle that is in use from now on.

        wanted   the one that a login names, which is free; 0 for any
        """
        tsih = wanted or self._free()
        self._used.add(tsih)
        return tsih

    def release(self, tsih: int) -> None:
        """Makes a handle free; one that is free already stays so."""
        self._used.discard(tsih)

    def _free(self) -> int:
        while self._next in self._used:
            self._next = self._next % MAX_TSIH + 1
        tsih = self._next
        self._next = tsih % MAX_TSIH + 1
        return tsih
