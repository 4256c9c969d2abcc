"""Reads `[isns]`: the name service that tells initiators of the targets."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from iscsi_target.config.address import Address
from iscsi_target.config.tables import Document, Mistake, Table, Wrong
from iscsi_target.config.values import ISNS_PORT, MAX_PORT, IsnsEntry, StatusTransport, parse_address

MIN_PERIOD_S: Final = 10
MAX_PERIOD_S: Final = 30 * 86400
MAX_ENTITY_BYTES: Final = 255  # RFC4171 6.2.1
MIN_ENTITY_BYTES: Final = 3


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
