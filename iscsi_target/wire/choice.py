"""Chooses among layouts by the first byte of what is to be read."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from iscsi_target.wire.layout import Layout

T = TypeVar("T", bound=Layout)


class Choice(Generic[T]):
    """A set of layouts of which the first byte tells one.

    layouts     by the values of the first byte
    otherwise   the layout of everything else
    """

    def __init__(self, layouts: Mapping[int, type[T]], otherwise: type[T]) -> None:
        self._layouts = dict(layouts)
        self._otherwise = otherwise

    def unpack(self, buffer: bytes | bytearray | memoryview, offset: int = 0) -> T:
        """Reads a value of the layout that the byte at offset chooses.

        buffer    at least one byte longer than offset
        raises    LayoutError when it is too short for the layout
        """
        return self._layouts.get(buffer[offset], self._otherwise).unpack(buffer, offset)
