"""Reads `[isns]` and `[slp]`: the name services that tell initiators of the targets."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from iscsi_target.config.address import Address
from iscsi_target.config.tables import Document, Mistake, Table, Wrong
from iscsi_target.config.values import (
    ISNS_PORT,
    MAX_PORT,
    SLP_PORT,
    IsnsEntry,
    SlpEntry,
    StatusTransport,
    parse_address,
)

MIN_PERIOD_S: Final = 10
MAX_PERIOD_S: Final = 30 * 86400
MAX_ENTITY_BYTES: Final = 255  # RFC4171 6.2.1
MIN_ENTITY_BYTES: Final = 3
MAX_SCOPES: Final = 16  # so that a list of them fits every message
MAX_SCOPE_LENGTH: Final = 32
SCOPE_RESERVED: Final = set("(),\\!<=>~;*+")  # RFC2608 6.4.1


def _server(found: object) -> object:
    if not isinstance(found, str):
        raise Wrong("is not a text", 'write server = "192.0.2.1"')
    try:
        server = parse_address(found, ISNS_PORT)
    except ValueError as error:
        raise Wrong(str(error), 'write server = "192.0.2.1" or "[2001:db8::1]:3205"') from error
    if not server.port:
        raise Wrong(f"{found!r} has port 0", f"leave the port out for {ISNS_PORT}, or write another")
    return server


def _entity(found: object) -> object:
    if isinstance(found, str) and not MIN_ENTITY_BYTES <= len(found.encode(errors="replace")) <= MAX_ENTITY_BYTES:
        what = f"{found[:80]!r} has not {MIN_ENTITY_BYTES} to {MAX_ENTITY_BYTES} bytes"
        raise Wrong(what, "write a name that no other host has, or leave it out for the first target's name")
    if isinstance(found, str) and not found.isprintable():
        raise Wrong("has a control character", "write a name of this host")
    return found


class IsnsTable(Table):
    """`[isns]`."""

    server: Annotated[Address, BeforeValidator(_server)]
    entity: Annotated[str, BeforeValidator(_entity)] = ""
    registration_period: int = Field(default=300, ge=MIN_PERIOD_S, le=MAX_PERIOD_S)
    esi_interval: int = Field(default=60, ge=0, le=MAX_PERIOD_S)
    status_transport: Literal["udp", "tcp", "none"] = "udp"
    status_port: int = Field(default=0, ge=0, le=MAX_PORT)


def isns(document: Document) -> IsnsEntry | None:
    """Returns the iSNS server to register with, and None without `[isns]` or when that is wrong."""
    table = document.optional(IsnsTable, "isns")
    if table is None:
        return None
    if table.status_transport == "none" and {"esi_interval", "status_port"} & table.model_fields_set:
        remedy = "leave out esi_interval and status_port, or choose udp or tcp"
        document.mistakes.append(Mistake(("isns", "status_transport"), "is none, so nothing arrives", remedy))
    return IsnsEntry(
        server=table.server,
        entity=table.entity,
        registration_period_s=table.registration_period,
        esi_interval_s=table.esi_interval,
        status_transport=StatusTransport(table.status_transport),
        status_port=table.status_port,
    )


def _slp_address(found: object) -> object:
    if not isinstance(found, str):
        raise Wrong("is not a text", 'write "0.0.0.0" or "192.0.2.1:427"')
    try:
        return parse_address(found, SLP_PORT)
    except ValueError as error:
        raise Wrong(str(error), 'write "192.0.2.1" or "[2001:db8::1]:427"') from error


def _scope(found: object) -> object:
    if isinstance(found, str) and (not found.strip() or set(found) & SCOPE_RESERVED or not found.isprintable()):
        raise Wrong(f"{found!r} is not a scope", "use letters, digits, spaces, hyphens and dots")
    if isinstance(found, str) and len(found) > MAX_SCOPE_LENGTH:
        raise Wrong(f"has more than {MAX_SCOPE_LENGTH} characters", "shorten it")
    return found


SlpAddress = Annotated[Address, BeforeValidator(_slp_address)]
Scope = Annotated[str, BeforeValidator(_scope)]


class SlpTable(Table):
    """`[slp]`."""

    listen: list[SlpAddress] = Field(default=list(SlpEntry().listen), min_length=1)
    scopes: list[Scope] = Field(default=list(SlpEntry().scopes), min_length=1)
    lifetime: int = Field(default=SlpEntry().lifetime_s, ge=1, le=65535)
    multicast: bool = True


def slp(document: Document) -> SlpEntry | None:
    """Returns how targets are advertised by SLP, and None without `[slp]` or when that is wrong."""
    table = document.optional(SlpTable, "slp")
    if table is None:
        return None
    if len(set(table.listen)) < len(table.listen):
        document.mistakes.append(Mistake(("slp", "listen"), "names an address twice", "drop one of them"))
    if len(table.scopes) > MAX_SCOPES:
        document.mistakes.append(Mistake(("slp", "scopes"), f"has more than {MAX_SCOPES} scopes", "drop some of them"))
    return SlpEntry(tuple(table.listen), tuple(table.scopes), table.lifetime, table.multicast)
