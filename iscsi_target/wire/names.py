"""iSCSI names: their form, and the one spelling in which equal names compare equal."""

import re
import unicodedata
from typing import Final

MAX_NAME_BYTES: Final = 223  # RFC7143 4.2.7.1

_NAME = re.compile(r"iqn\.[^\s,=\x00-\x1f\x7f]+|eui\.[0-9a-f]{16}|naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})", re.ASCII)


class InadmissibleValue(ValueError):
    """Says that a value is not of the form, or not in the range, that its key wants."""


def iscsi_name(value: str) -> str:
    """Reads an iSCSI name and normalises it, so that equal names compare equal.

    Only the type prefix, the hexadecimal digits of eui. and naa. and the absence of separators are checked:
    names with a character that stringprep forbids, such as the underscore, are in use.

    value     as received or configured
    returns   the name in lower case, at most MAX_NAME_BYTES of UTF-8
    raises    InadmissibleValue
    Source: RFC7143 4.2.7, RFC 3722
    """
    if len(value) > MAX_NAME_BYTES:
        raise InadmissibleValue(f"an iSCSI name of more than {MAX_NAME_BYTES} bytes")
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise InadmissibleValue(f"an iSCSI name of more than {MAX_NAME_BYTES} bytes")
    if not name.isprintable() or not _NAME.fullmatch(name):
        raise InadmissibleValue("not an iSCSI name: iqn., eui. or naa. and what belongs to it")
    return name
