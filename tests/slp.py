"""A small SLP user agent: it makes requests and reads replies with nothing of the package."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

SRV_RQST, SRV_RPLY, ATTR_RQST, ATTR_RPLY, SRV_TYPE_RQST, SRV_TYPE_RPLY, SA_ADVERT = 1, 2, 6, 7, 9, 10, 11
OVERFLOW, MULTICAST = 0x8000, 0x2000
TARGETS = "service:iscsi:target"


class Reply(NamedTuple):
    """A reply.

    items    URLs, or else the one text that it has
    """

    function: int
    error: int
    items: list[str]
    overflow: bool
    xid: int
    language: str


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


@dataclass(frozen=True)
class Head:
    """What a request has beside what it asks for."""

    previous: str = ""
    scopes: str = "DEFAULT"
    spi: str = ""
    flags: int = 0
    xid: int = 7
    language: str = "en"
    extensions: bytes = b""


def message(function: int, body: bytes, head: Head = Head()) -> bytes:
    tag = text(head.language)
    length = 12 + len(tag) + len(body) + len(head.extensions)
    offset = length - len(head.extensions) if head.extensions else 0
    start = struct.pack(">BB", 2, function) + length.to_bytes(3, "big") + struct.pack(">H", head.flags)
    return start + offset.to_bytes(3, "big") + struct.pack(">H", head.xid) + tag + body + head.extensions


def service_request(kind: str = TARGETS, predicate: str = "", **head) -> bytes:
    found = Head(**head)
    return message(SRV_RQST, b"".join(map(text, (found.previous, kind, found.scopes, predicate, found.spi))), found)


def attribute_request(url: str = TARGETS, tags: str = "", **head) -> bytes:
    found = Head(**head)
    return message(ATTR_RQST, b"".join(map(text, (found.previous, url, found.scopes, tags, found.spi))), found)


def type_request(authority: str | None = None, **head) -> bytes:
    found = Head(**head)
    naming = b"\xff\xff" if authority is None else text(authority)
    return message(SRV_TYPE_RQST, text(found.previous) + naming + text(found.scopes), found)


def read(reply: bytes) -> Reply:
    """Reads a reply, all of it."""
    version, function = reply[0], reply[1]
    flags, xid = struct.unpack_from(">H", reply, 5)[0], struct.unpack_from(">H", reply, 10)[0]
    assert (version, int.from_bytes(reply[2:5], "big")) == (2, len(reply))
    language, at = _text(reply, 12)
    error, items = 0, []
    if function != SA_ADVERT:
        error, at = struct.unpack_from(">H", reply, at)[0], at + 2
    if function == SRV_RPLY:
        count, at = struct.unpack_from(">H", reply, at)[0], at + 2
        for _ in range(count):
            url, at = _text(reply, at + 3)
            items.append(url)
            assert reply[at] == 0
            at += 1
    else:
        while at < len(reply) - (function != SRV_TYPE_RPLY):
            item, at = _text(reply, at)
            items.append(item)
        at += function != SRV_TYPE_RPLY
    assert at == len(reply)
    return Reply(function, error, items, bool(flags & OVERFLOW), xid, language)


def _text(reply: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + struct.unpack_from(">H", reply, at)[0]
    return reply[at + 2 : end].decode(), end
