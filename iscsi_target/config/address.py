"""An address that a portal listens at or a peer connects from."""

from typing import NamedTuple


class Address(NamedTuple):
    """An IP address or host name and a TCP port; prints as host:port, or [host]:port for IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
