"""libiscsi's URLs: iscsi://[user[%secret]@]host[:port]/target/lun[?options].

As in libiscsi the options are `target_user` and `target_password`, with which the target is to prove itself, and
`header_digest`; `data_digest` is ours. Only the target's name may have %XX in it. A user without a secret has no
meaning there; here it is refused, as are options that nobody knows.
"""

from typing import Final, NamedTuple
from urllib.parse import unquote

from iscsi_target.initiator.proof import Credentials
from iscsi_target.iscsi.chap import ChapAccount
from iscsi_target.iscsi.parameters import CRC32C
from iscsi_target.iscsi.text import NONE
from iscsi_target.scsi.layouts.lun import MAX_LUN
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

SCHEME: Final = "iscsi://"
DEFAULT_PORT: Final = 3260  # RFC7143 4.2.7.1
_OPTIONS: Final = frozenset({"target_user", "target_password", "header_digest", "data_digest"})
_DIGESTS: Final = {"crc32c": (CRC32C,), "none": (NONE,), "crc32c-none": (CRC32C, NONE), "none-crc32c": (NONE, CRC32C)}

Digests = tuple[str, ...]


class IscsiUrl(NamedTuple):
    """What a URL says.

    host, port     of a portal
    target         empty when the URL names only a portal
    lun            0 then
    credentials    None without a user
    header_digest, data_digest    what is to be offered, or None when the URL does not say
    """

    host: str
    port: int = DEFAULT_PORT
    target: str = ""
    lun: int = 0
    credentials: Credentials | None = None
    header_digest: Digests | None = None
    data_digest: Digests | None = None


def parse_url(url: str) -> IscsiUrl:
    """Takes a URL apart.

    url       of a unit, or of a portal only
    raises    ValueError, which says what is wrong and shows no secret
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"an iSCSI URL begins with {SCHEME}")
    place, _, query = url.removeprefix(SCHEME).partition("?")
    user, at, place = place.rpartition("@")
    portal, *path = place.split("/")
    options = _options(query)
    host, port = parse_portal(portal)
    target, lun = _unit(path)
    return IscsiUrl(
        host,
        port,
        target,
        lun,
        _credentials(user, options) if at else None,
        _digests(options, "header_digest"),
        _digests(options, "data_digest"),
    )


def _options(query: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in query.split("&") if part]
    options = {key: value for key, _, value in pairs}
    if unknown := set(options) - _OPTIONS:
        raise ValueError(f"an iSCSI URL has no option {', '.join(sorted(unknown))}")
    return options


def parse_portal(portal: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Takes "host[:port]" apart, in which an IPv6 address is in brackets; raises ValueError."""
    host, colon, port = portal.rpartition(":")
    if not colon or portal.endswith("]"):
        host, port = portal, str(default_port)
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{portal!r} is no host and port; an IPv6 address wants brackets")
    host = host.strip("[]")
    if not _is_host(host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{portal!r} is no host and port")
    return host, int(port)


def _is_host(host: str) -> bool:
    """Says whether a host may be looked up at all."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _unit(path: list[str]) -> tuple[str, int]:
    if path in ([], [""]):
        return "", 0
    if len(path) != 2:
        raise ValueError("an iSCSI URL ends with /target/lun, or with the portal")
    target, lun = path
    try:
        name = iscsi_name(unquote(target))
    except InadmissibleValue as error:
        raise ValueError(f"{target!r} is {error}") from None
    if not lun.isascii() or not lun.isdigit() or int(lun) > MAX_LUN:
        raise ValueError(f"{lun!r} is no LUN, which is 0 to {MAX_LUN}")
    return name, int(lun)


def _credentials(user: str, options: dict[str, str]) -> Credentials:
    name, percent, secret = user.partition("%")
    if not percent:
        name, _, secret = user.partition(":")
    if not name or not secret:
        raise ValueError("an iSCSI URL with a user has a secret too: user%secret@")
    target_name, target_secret = options.get("target_user", ""), options.get("target_password", "")
    if bool(target_name) != bool(target_secret):
        raise ValueError("target_user and target_password go together")
    mutual = ChapAccount(target_name, target_secret.encode()) if target_name else None
    return Credentials(ChapAccount(name, secret.encode()), mutual)


def _digests(options: dict[str, str], name: str) -> Digests | None:
    if name not in options:
        return None
    if options[name] not in _DIGESTS:
        raise ValueError(f"{name} is one of {', '.join(_DIGESTS)}")
    return _DIGESTS[options[name]]
