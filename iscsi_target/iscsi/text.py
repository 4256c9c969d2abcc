"""Text segments: key=value pairs with their limits, sequences of PDUs with the C bit, encodings of values.

What a key means and which values it admits is the business of `keys` and `chap`. A segment that breaks the
form is a `ProtocolError`; a value that is not of the form its key wants is an `InadmissibleValue`, which the
two turn into the answer `Reject` or into a refused login.

Read liberally where nothing is lost: empty pairs (doubled or trailing NULs, with which some initiators pad)
are skipped, the last NUL may be missing, and a key need not begin with a capital letter (it is then merely
not understood).
"""

import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Final

from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.wire.names import InadmissibleValue

Pair = tuple[str, str]

MAX_KEY_BYTES: Final = 63  # RFC7143 6.1, standard-label
MAX_VALUE_BYTES: Final = 255  # RFC7143 6.1, of one value of a list
MAX_CONSTANT_BYTES: Final = 8192  # of a value in the form of a binary constant; the longest known is 1024 bytes in hex
MAX_SEQUENCE_BYTES: Final = 65536  # RFC7143 6.1: what must be received when authentication items are long
MAX_PAIRS: Final = 256  # of one sequence; chapters 12 and 13 define some 50 keys
MAX_NUMBER: Final = 2**64 - 1  # RFC7143 6.1, numerical-value

NONE: Final = "None"
REJECT: Final = "Reject"
IRRELEVANT: Final = "Irrelevant"
NOT_UNDERSTOOD: Final = "NotUnderstood"
REPLIES: Final = frozenset({REJECT, IRRELEVANT, NOT_UNDERSTOOD})  # may be answered, never proposed

_KEY = re.compile(rb"[A-Za-z0-9.+@_#-]+")  # '#' for the extension keys of RFC 3720
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PLAIN = re.compile(  # a sequence that breaks no limit, each pair with its NUL
    rb"(?:[A-Za-z0-9.+@_#-]{1,%d}+=[^\x00-\x1f\x7f]{0,%d}+\0){1,%d}" % (MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_PAIRS)
)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_HEX = re.compile(r"0[xX]([0-9a-fA-F]+)", re.ASCII)
_BASE64 = re.compile(r"0[bB]([0-9A-Za-z+/]+={0,2})", re.ASCII)


def parse(segment: bytes) -> list[Pair]:
    """Reads the pairs of one complete sequence, each key once.

    segment   the data of all PDUs of the sequence, joined
    returns   the pairs in their order
    raises    ProtocolError when a pair breaks the form or a limit, or when a key comes twice
    Source: RFC7143 6.1, 6.2, 6.3
    """
    pairs = parse_listing(segment)
    if len(dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise _broken(f"the key {repeated} comes twice in one sequence")
    return pairs


def parse_listing(segment: bytes, most: int = MAX_PAIRS, limit_bytes: int = MAX_SEQUENCE_BYTES) -> list[Pair]:
    """Reads the pairs of a complete sequence in which keys may repeat, as in the answer to SendTargets.

    segment       the data of all PDUs of the sequence, joined
    most          how many pairs there may be
    limit_bytes   how long the text may be
    returns       the pairs in their order
    raises        ProtocolError when a pair breaks the form or a limit
    Source: RFC7143 6.1, Appendix C
    """
    if len(segment) > limit_bytes:
        raise _broken(f"text of {len(segment)} bytes, the limit is {limit_bytes}")
    if _PLAIN.fullmatch(segment) and segment.isascii():
        plain = [part.partition("=") for part in segment.decode("ascii").split("\0")]
        return [(name, value) for name, _, value in plain[:-1]]
    parts = [part for part in segment.split(b"\0") if part]
    if len(parts) > most:
        raise _broken(f"{len(parts)} keys in one sequence, the limit is {most}")
    return [_parse_pair(part) for part in parts]


def _parse_pair(part: bytes) -> Pair:
    name, value = _take_apart(part)
    try:
        return name.decode("ascii"), value.decode("utf-8")
    except UnicodeDecodeError:
        raise _broken(f"the value of {name.decode('ascii')} is not UTF-8") from None


def _take_apart(part: bytes) -> tuple[bytes, bytes]:
    """Returns the key and the value of any pair, or says what is wrong with a part that is none."""
    key, equals, value = part.partition(b"=")
    if not equals:
        raise _broken(f"text without an equals sign: {key[:MAX_KEY_BYTES]!r}")
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key):
        raise _broken(f"not a key name: {key[:MAX_KEY_BYTES]!r}")
    name = key.decode("ascii")
    if any(len(item) > _limit(item) for item in value.split(b",")):
        raise _broken(f"the value of {name} is too long")
    if _CONTROL.search(value):
        raise _broken(f"the value of {name} has a control character")
    return key, value


def _limit(item: bytes) -> int:
    return MAX_CONSTANT_BYTES if item.startswith((b"0x", b"0X", b"0b", b"0B")) else MAX_VALUE_BYTES


def _broken(text: str) -> ProtocolError:
    return ProtocolError(RejectReason.PROTOCOL_ERROR, text)


def checked(pairs: Iterable[Pair]) -> list[Pair]:
    """Returns pairs of whatever origin.

    raises    ValueError when one cannot be written, because of an equals sign in a key, a NUL, or what UTF-8 has not
    Source: RFC7143 6.1
    """
    found = list(pairs)
    for key, value in found:
        if not key or "=" in key or b"\0" in f"{key}={value}".encode():
            raise ValueError(f"{key!r}={value!r} is no pair of a key and a value")
    return found


def encode(pairs: Iterable[Pair]) -> bytes:
    """Writes pairs as text, each with its NUL.

    pairs     ours: keys and values without a NUL, keys without an equals sign
    returns   the text; empty when there are no pairs
    Source: RFC7143 6.1
    """
    written = [f"{key}={value}\0" for key, value in pairs]
    text = "".join(written)
    assert text.count("\0") == len(written), "no NUL in a key or value"
    return text.encode()


def split(pairs: Sequence[Pair], limit_bytes: int) -> list[bytes]:
    """Cuts pairs into the data segments of a sequence; all but the last are sent with the C bit.

    A segment ends between pairs, because some initiators read each PDU on its own; only a pair that is longer
    than a whole segment is cut.

    pairs        what to send
    limit_bytes  the receiver's MaxRecvDataSegmentLength, 512 or more
    returns      at least one segment; a single empty one when there are no pairs
    Source: RFC7143 6.2, 11.11.2
    """
    assert limit_bytes > 0
    whole = encode(pairs)
    if len(whole) <= limit_bytes:
        return [whole]
    segments = [b""]
    for key, value in pairs:
        encoded = encode([(key, value)])
        if segments[-1] and len(segments[-1]) + len(encoded) > limit_bytes:
            segments.append(b"")
        while len(encoded) > limit_bytes:
            segments[-1] = encoded[:limit_bytes]
            encoded = encoded[limit_bytes:]
            segments.append(b"")
        segments[-1] += encoded
    return segments


class TextCollector:
    """Joins the data segments of a sequence of PDUs, all but the last of which have the C bit.

    limit_bytes   how long the sequence may be
    Source: RFC7143 6.2, 11.10.2
    """

    def __init__(self, limit_bytes: int = MAX_SEQUENCE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._segments: list[bytes] = []
        self._size_bytes = 0

    def extend(self, segment: bytes) -> None:
        """Takes the data of a PDU with the C bit.

        segment   not empty, since a sequence of empty segments would never end
        raises    ProtocolError when the segment is empty or the sequence is too long
        Source: RFC7143 6.2
        """
        if not segment:
            raise _broken("a PDU with the C bit and no text")
        self._size_bytes += len(segment)
        if self._size_bytes > self._limit_bytes:
            raise _broken(f"a text sequence of more than {self._limit_bytes} bytes")
        self._segments.append(segment)

    def finish(self, segment: bytes) -> list[Pair]:
        """Takes the data of a PDU without the C bit and ends the sequence.

        segment   the last data, may be empty
        returns   the pairs of the whole sequence
        raises    ProtocolError as `parse` does
        Source: RFC7143 6.2
        """
        return parse(self.join(segment))

    def join(self, segment: bytes) -> bytes:
        """Ends the sequence as `finish` does, and returns its text, in which keys may repeat.

        Source: RFC7143 6.2, Appendix C
        """
        segments, self._segments, self._size_bytes = [*self._segments, segment], [], 0
        return b"".join(segments)


def items(value: str) -> list[str]:
    """Returns the values of a list.

    value     comma-separated
    raises    InadmissibleValue when one of them is empty
    Source: RFC7143 6.1, list-of-values
    """
    parts = value.split(",")
    if not all(parts):
        raise InadmissibleValue("an empty value in a list")
    return parts


def boolean(value: str) -> bool:
    """Reads `Yes` or `No`.

    raises    InadmissibleValue for anything else
    Source: RFC7143 6.1, boolean-value
    """
    if value not in ("Yes", "No"):
        raise InadmissibleValue("neither Yes nor No")
    return value == "Yes"


def number(value: str) -> int:
    """Reads a decimal or hexadecimal number.

    returns   0..MAX_NUMBER
    raises    InadmissibleValue
    Source: RFC7143 6.1, numerical-value
    """
    if _DECIMAL.fullmatch(value):
        result = int(value)
    elif (match := _HEX.fullmatch(value)) and len(value) <= MAX_VALUE_BYTES:
        result = int(match[1], 16)
    else:
        raise InadmissibleValue("not a number")
    if result > MAX_NUMBER:
        raise InadmissibleValue("a number of more than 64 bits")
    return result


def binary(value: str, limit_bytes: int) -> bytes:
    """Reads a binary value in hexadecimal (0x) or base64 (0b).

    value         an odd number of hexadecimal digits means a leading zero digit
    limit_bytes   the longest result that is admitted; longer values are refused before they are decoded
    returns       at least one byte
    raises        InadmissibleValue
    Source: RFC7143 6.1, large-binary-value
    """
    if match := _HEX.fullmatch(value):
        digits = match[1]
        _admit((len(digits) + 1) // 2, limit_bytes)
        return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    if (match := _BASE64.fullmatch(value)) and len(match[1]) % 4 == 0:
        _admit(len(match[1]) // 4 * 3 - match[1].count("="), limit_bytes)
        return binascii.a2b_base64(match[1], strict_mode=True)
    raise InadmissibleValue("neither a hexadecimal nor a base64 constant")


def _admit(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise InadmissibleValue(f"a binary value of {size_bytes} bytes, the limit is {limit_bytes}")


def hexadecimal(value: bytes) -> str:
    """Writes a binary value with lower-case digits and prefix; libiscsi and FreeBSD accept no other prefix.

    value     at least one byte
    Source: RFC7143 6.1, hex-constant
    """
    assert value
    return "0x" + value.hex()
