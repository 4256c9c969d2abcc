"""How the targets of a server stand: what the configuration says of each, or what the operator has ordered since."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from iscsi_target.config.values import WILDCARDS, TargetEntry, parse_address
from iscsi_target.iscsi.standing import OFFLINE, ONLINE, Standing, moved_to
from iscsi_target.scsi.reservations.reservation_record import Record
from iscsi_target.server.refused import Refused
from iscsi_target.target import SessionSummary

log = logging.getLogger(__name__)


class Targets:
    """The targets of a server.

    changing    held by whoever changes what is served
    adopted     is called when targets stand otherwise than before
    sessions    tells which are open
    """

    def __init__(
        self,
        changing: asyncio.Lock,
        adopted: Callable[[], None],
        sessions: Callable[[], Sequence[SessionSummary]],
    ) -> None:
        self._changing = changing
        self._adopted = adopted
        self._sessions = sessions
        self._entries: dict[str, TargetEntry] = {}
        self._ordered: dict[str, Standing] = {}

    def configure(self, entries: Sequence[TargetEntry]) -> None:
        """Takes the targets of a configuration; what was ordered holds as long as that says the same of the target."""
        had, self._entries = self._entries, {entry.name: entry for entry in entries}
        self._ordered = {
            name: standing
            for name, standing in self._ordered.items()
            if name in self._entries and name in had and had[name].standing == self._entries[name].standing
        }

    def standing(self, entry: TargetEntry) -> Standing:
        """Returns how a target stands now."""
        return self._ordered.get(entry.name, entry.standing)

    async def take_offline(self, name: str) -> None:
        """Asks all initiators of a target to log out and lets none in; after `logout_timeout` they are cut.

        raises    Refused when there is no such target
        """
        await self._order(name, OFFLINE)

    async def bring_online(self, name: str) -> None:
        """Lets initiators in again, whatever the configuration says; raises as `take_offline`."""
        await self._order(name, ONLINE)

    async def redirect(self, name: str, address: str, *, permanent: bool = False) -> None:
        """Asks all initiators of a target to log out, and sends those that log in elsewhere.

        address    "host", "host:port", "[v6]" or "[v6]:port"
        raises     Refused when there is no such target, or the address is none
        Source: RFC7143 11.13.5
        """
        try:
            elsewhere = parse_address(address)
        except ValueError as error:
            raise Refused(str(error), "write HOST:PORT of the portal that has the target now") from error
        if elsewhere.port == 0 or elsewhere.host in WILDCARDS:
            what = f"{elsewhere} is nothing that an initiator can connect to"
            raise Refused(what, "write HOST:PORT of the portal that has the target now")
        await self._order(name, moved_to(str(elsewhere), permanent=permanent))

    async def _order(self, name: str, standing: Standing) -> None:
        name = name.lower()
        async with self._changing:
            if name not in self._entries:
                raise Refused(f"there is no target {name!r}", f"targets: {', '.join(self._entries) or 'none'}")
            log.info("the operator orders: target %s %s", name, standing)
            self._ordered[name] = standing
            self._adopted()

    def records(self) -> list[Record]:
        """Returns what there is to know of each target."""
        open_sessions = [session.target for session in self._sessions()]
        return [
            {
                "target": entry.name,
                "standing": str(self.standing(entry)),
                "admits": self.standing(entry).admits,
                "address": self.standing(entry).address,
                "sessions": open_sessions.count(entry.name),
            }
            for entry in self._entries.values()
        ]


async def carry_out(targets: Targets, request: Record) -> Record:
    """Carries out what the control socket is asked about targets, and returns what is answered.

    raises    Refused
    """
    wanted, name, address = request.get("state"), str(request.get("target")), request.get("address")
    if request.get("request") == "set_target":
        match wanted:
            case "online":
                await targets.bring_online(name)
            case "offline":
                await targets.take_offline(name)
            case "moved" | "moved_permanently" if isinstance(address, str):
                await targets.redirect(name, address, permanent=wanted == "moved_permanently")
            case _:
                known = "online, offline, or moved or moved_permanently with an address"
                raise Refused(f"{wanted!r} is no state of a target, or has no address", f"ask for {known}")
    return {"targets": targets.records()}
