"""Logging in: from a URL to a session, over redirections."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from iscsi_target.client import isns
from iscsi_target.client.channel import Channel
from iscsi_target.client.failures import NotLoggedIn, SessionEnded
from iscsi_target.client.session import ClientSession, Dial
from iscsi_target.client.targets import DiscoveredTarget
from iscsi_target.client.url import IscsiUrl, parse_portal, parse_url
from iscsi_target.initiator.events import LoggedIn
from iscsi_target.initiator.faults import FaultScript, Rule
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.proof import Credentials
from iscsi_target.initiator.session import RECOVERY_TIMEOUT_S, Session, Settings
from iscsi_target.iscsi.parameters import Preferences

DEFAULT_NAME: Final = "iqn.2026-11.org.iscsi-target:initiator"
ISID_BYTES: Final = 6
MAX_REDIRECTIONS: Final = 8
LOGIN_TIMEOUT_S: Final = 30.0
LOGOUT_TIMEOUT_S: Final = 30.0


class Reconnect(NamedTuple):
    """How a session that is lost is renewed.

    tries     how often a login is tried
    wait_s    after one that was in vain
    """

    tries: int = 8
    wait_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What else a login may be told.

    preferences        the initiator's own side of every negotiation
    offers             pairs that are offered instead of those of the preferences, or besides
    alias              InitiatorAlias
    first_cmd_sn       CmdSN of the first command
    obeys              whether the session logs out when the target asks it to
    rules              faults that outgoing PDUs are to suffer, those of the login too
    local_address      host to connect from; empty leaves it to the kernel
    login_timeout_s    for all redirections and connections together
    recovery_timeout_s from ErrorRecoveryLevel 1 on, how long nothing comes until what may be lost is asked for again
    reconnect          how a session that is lost is renewed, before the next command; None leaves it lost
    connections        how many the session is to have from the beginning, if the target takes so many; MaxConnections
                       is offered accordingly
    """

    preferences: Preferences = field(default=Preferences())
    offers: Mapping[str, str] = field(default_factory=dict)
    alias: str = ""
    first_cmd_sn: int = 1
    obeys: bool = True
    rules: tuple[Rule, ...] = ()
    local_address: str = ""
    login_timeout_s: float = LOGIN_TIMEOUT_S
    connections: int = 1
    recovery_timeout_s: float = RECOVERY_TIMEOUT_S
    reconnect: Reconnect | None = None


@asynccontextmanager
async def connect(
    url: str | IscsiUrl,
    *,
    initiator_name: str = DEFAULT_NAME,
    isid: bytes | None = None,
    chap: Credentials | None = None,
    options: Options = Options(),
) -> AsyncIterator[ClientSession]:
    """A session inside `async with`: logged in when the body begins, logged out when it ends.

    A body that ends with an exception, or has ended the session itself, leaves no logout to do.

    url         of a unit; one that names only a portal makes a discovery session
    isid        6 bytes; None chooses, so that the session replaces no other
    chap        instead of what the URL says
    raises      NotLoggedIn; OSError and TimeoutError when nobody answers; ValueError for what cannot be sent
    """
    place = parse_url(url) if isinstance(url, str) else url
    chosen = _random_isid() if isid is None else isid
    if len(chosen) != ISID_BYTES:
        raise ValueError(f"an ISID has {ISID_BYTES} bytes")
    credentials = chap or place.credentials
    if credentials is not None and not credentials.secrets_differ:
        raise ValueError("the secret of the target must not be that of the initiator (RFC7143 9.2.1)")
    identity = Identity(initiator_name, chosen, place.target or None, options.alias)
    settings = Settings(
        _preferences(options, place),
        options.offers,
        credentials,
        options.first_cmd_sn,
        options.obeys,
        options.recovery_timeout_s,
    )
    login = _Login(place, identity, settings, options)
    channel, dial = await login.begin(FaultScript(options.rules))
    session = ClientSession(channel, place.lun, channel.answers, dial, login.renew if options.reconnect else None)
    try:
        for _ in range(1, min(options.connections, session.parameters.max_connections)):
            async with asyncio.timeout(options.login_timeout_s):
                await session.join()
        yield session
        with suppress(SessionEnded):  # the target may have ended it meanwhile
            async with asyncio.timeout(LOGOUT_TIMEOUT_S):
                await session.log_out()
    finally:
        await session.close()


async def discover(
    url: str | IscsiUrl,
    *,
    initiator_name: str = DEFAULT_NAME,
    chap: Credentials | None = None,
    options: Options = Options(),
) -> list[DiscoveredTarget]:
    """Returns the targets that a portal, or an iSNS server, tells this initiator of.

    url       of a portal, in which a target does not matter; or isns://host[:port] of an iSNS server, which takes
              nothing of chap and options but the time limit
    raises    as `connect`; QueryRefused when an iSNS server does not answer
    Source: RFC7143 4.3, Appendix C; RFC4171 5.6.5.2
    """
    if isinstance(url, str) and url.startswith(isns.SCHEME):
        async with asyncio.timeout(options.login_timeout_s):
            return await isns.find_targets(url, initiator_name)
    place = (parse_url(url) if isinstance(url, str) else url)._replace(target="", lun=0)
    async with connect(place, initiator_name=initiator_name, chap=chap, options=options) as session:
        return await session.send_targets()


def _random_isid() -> bytes:
    """Returns an ISID of the random format.

    Source: RFC7143 11.12.5
    """
    return b"\x80" + secrets.token_bytes(ISID_BYTES - 1)


def _preferences(options: Options, place: IscsiUrl) -> Preferences:
    """Returns the preferences with what the URL says of digests, and as many connections as there are to be."""
    preferences = options.preferences
    return preferences._replace(
        max_connections=max(preferences.max_connections, options.connections),
        header_digest=place.header_digest or preferences.header_digest,
        data_digest=place.data_digest or preferences.data_digest,
    )


class _Login(NamedTuple):
    """What every login of a session is made of."""

    place: IscsiUrl
    identity: Identity
    settings: Settings
    options: Options

    async def begin(self, faults: FaultScript) -> tuple[Channel, Dial]:
        """Logs in; returns the channel, and what opens further connections to the same portal."""
        async with asyncio.timeout(self.options.login_timeout_s):
            return await self._log_in(faults)

    async def renew(self, faults: FaultScript) -> tuple[Channel, Dial]:
        """Logs in again, more than once if need be."""
        reconnect = self.options.reconnect or Reconnect()
        for _ in range(1, reconnect.tries):
            with suppress(NotLoggedIn, OSError):  # TimeoutError is one
                return await self.begin(faults)
            await asyncio.sleep(reconnect.wait_s)
        return await self.begin(faults)

    async def _log_in(self, faults: FaultScript) -> tuple[Channel, Dial]:
        portal = Portal(self.place.host, self.place.port, self.options.local_address)
        redirections = 0
        while True:
            channel = await _open(Session(self.identity, self.settings, secrets.token_bytes, faults), portal)
            try:
                answer = await channel.login
            except BaseException:
                await channel.close()
                raise
            if isinstance(answer, LoggedIn):
                return channel, portal.dial
            await channel.close()
            if not answer.target_address or redirections == MAX_REDIRECTIONS:
                raise NotLoggedIn(answer.status, answer.reason)
            redirections += 1
            host, port = _redirected(answer.target_address)
            portal = Portal(host, port, self.options.local_address)


class Portal(NamedTuple):
    """Where connections go to.

    local_address    host to connect from; empty leaves it to the kernel
    """

    host: str
    port: int
    local_address: str

    async def dial(self, other: str = "") -> asyncio.Transport:
        """Opens a transport to the portal, or to another, "host[:port]"."""
        host, port = parse_portal(other) if other else (self.host, self.port)
        source = (self.local_address, 0) if self.local_address else None
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port, local_addr=source)
        return transport


async def _open(machine: Session, portal: Portal) -> Channel:
    transport = await portal.dial()
    try:
        channel = Channel(machine, transport)
    except BaseException:
        transport.abort()
        raise
    if transport.is_closing():  # before anybody could be told
        raise NotLoggedIn(0, "the connection is closed")
    return channel


def _redirected(address: str) -> tuple[str, int]:
    """Reads "host[:port][,tag]"; raises NotLoggedIn when it is none.

    Source: RFC7143 13.8
    """
    try:
        return parse_portal(address.partition(",")[0])
    except ValueError:
        raise NotLoggedIn(0, f"the target redirects to {address!r}, which is no address") from None
