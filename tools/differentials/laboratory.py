"""The laboratory: LIO in a guest, and this target twice, as `strict` and with the personality of LIO."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import iscsi_target
from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from tools.differentials.side import Place, Side, logged_in
from tools.differentials.steps import NAME, NEXUSES
from tools.guests.image import Image
from tools.guests.machine import Guest, GuestFailed, booted, free_port

LIO, STRICT, IMITATION = "LIO", "strict", "lio"
TARGET = f"{NAME}:compared"
SCRIPT = Path(__file__).with_name("lio.sh")
UNIT_BYTES = 64 << 20
LOG_LINES = 40
GUEST_PORTS = {1: 3260, 2: 3261}


class Lio(NamedTuple):
    """LIO in a guest.

    place     where it is
    guest     where it runs
    release   of its kernel
    """

    place: Place
    guest: Guest
    release: str

    def kernel_log(self) -> str:
        """Returns the end of what the guest's kernel has logged, which tells what became of LIO; raises GuestFailed."""
        return self.guest.run(f"dmesg | tail -n {LOG_LINES}").output


@contextmanager
def lio(image: Image) -> Iterator[Lio]:
    """Boots a guest in which LIO serves a unit; raises GuestUnavailable, GuestFailed."""
    ports = {number: free_port() for number in GUEST_PORTS}
    forwarded = {ports[number]: GUEST_PORTS[number] for number in ports}
    initiators = " ".join(sorted({port.initiator.name for port in NEXUSES.values()}))
    with booted(image, "lio", forwarded) as guest:
        made = guest.run(SCRIPT.read_text(), environment={"TARGET": TARGET, "INITIATORS": initiators})
        if made.status != 0:
            raise GuestFailed(f"LIO cannot be set up:\n{made.output}")
        yield Lio(Place(ports, TARGET), guest, guest.run("uname -r").output.strip())


def _configuration(state: Path, ports: dict[int, int]) -> Configuration:
    return Configuration(
        state=state,
        portal_groups=tuple(PortalGroup(tag, (Address("127.0.0.1", port),)) for tag, port in ports.items()),
        units=tuple(Unit(name, Backing.RAM, None, UNIT_BYTES, personality=name) for name in (STRICT, IMITATION)),
        targets=(TargetEntry(TARGET, {0: STRICT, 1: IMITATION}, portal_groups=tuple(ports)),),
    )


@asynccontextmanager
async def sides(theirs: Place) -> AsyncIterator[tuple[Side, Side, Side]]:
    """Serves this target and logs in everywhere: LIO, strict, and the personality."""
    ports = {number: free_port() for number in GUEST_PORTS}
    async with AsyncExitStack() as stack:
        state = stack.enter_context(TemporaryDirectory(prefix="differential-"))
        await stack.enter_async_context(iscsi_target.serve(_configuration(Path(state), ports)))
        ours = await stack.enter_async_context(logged_in(Place(ports, TARGET)))
        its = await stack.enter_async_context(logged_in(theirs))
        yield Side(LIO, its, 0), Side(STRICT, ours, 0), Side(IMITATION, ours, 1)
